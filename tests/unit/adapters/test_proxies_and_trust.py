"""Which proxy and which authorities the environment names."""

import ssl

import pytest

from evalmesh.adapters.proxies import proxy_for
from evalmesh.adapters.tls import tls_context
from evalmesh.domain.errors import InvalidInput

MODEL = "http://model.example:8000/v1"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, MODEL, ""),
        ({"http_proxy": "http://p:1"}, MODEL, "http://p:1"),
        ({"HTTP_PROXY": "p:1"}, MODEL, "http://p:1"),
        ({"https_proxy": "http://p:1"}, MODEL, ""),
        ({"HTTPS_PROXY": "http://p:1"}, "https://model.example/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://model.example/v1", "http://p:1"),
        ({"all_proxy": "http://p:1", "http_proxy": "http://p:2"}, MODEL, "http://p:2"),
        ({"http_proxy": "http://me:pw@p:1"}, MODEL, "http://me:pw@p:1"),
        ({"http_proxy": "http://p:1"}, "http://127.0.0.1:8000/v1", ""),
        ({"http_proxy": "http://p:1"}, "http://localhost:8000/v1", ""),
        ({"http_proxy": "http://p:1"}, "http://[::1]:8000/v1", ""),
    ],
)
def test_the_variables_of_curl_are_obeyed(variables, url, proxy, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    ("rule", "url", "left_out"),
    [
        ("*", MODEL, True),
        ("model.example", MODEL, True),
        ("example", MODEL, True),
        (".example", MODEL, True),
        ("*.example", MODEL, True),
        ("ample", MODEL, False),
        ("model.example:8000", MODEL, True),
        ("model.example:9000", MODEL, False),
        ("other, MODEL.example ,", MODEL, True),
        ("10.0.0.0/8", "http://10.1.2.3/v1", True),
        ("10.0.0.0/8", "http://11.1.2.3/v1", False),
        ("10.1.2.3", "http://10.1.2.3:80/v1", True),
        ("[fd00::1]", "http://[fd00::1]:80/v1", True),
        ("", MODEL, False),
    ],
)
def test_no_proxy(rule, url, left_out, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", rule)
    assert (proxy_for(url) == "") is left_out


def test_a_proxy_that_speaks_socks_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://me:pw@p:1")
    with pytest.raises(InvalidInput, match=r"socks5.*http_proxy.*no_proxy") as caught:
        proxy_for(MODEL)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_bundles_that_other_clients_obey(variable, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path / "nowhere.pem"))
    with pytest.raises(InvalidInput, match=f"{variable}: .*nowhere.pem"):
        tls_context("", verify=True, field="model.ca_file")
    with pytest.raises(InvalidInput, match=r"model\.ca_file: .*mine.pem"):
        tls_context(str(tmp_path / "mine.pem"), verify=True, field="model.ca_file")
    monkeypatch.setenv(variable, str(tmp_path))
    assert tls_context("", verify=True, field="model.ca_file").verify_mode is ssl.CERT_REQUIRED
    assert tls_context("", verify=False, field="model.ca_file").verify_mode is ssl.CERT_NONE
