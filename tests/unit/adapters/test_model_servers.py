"""A key goes nowhere but to the hosts of a connection that names it, and nothing is resolved before that is known."""

import json

import pytest

from evalmesh.adapters.model_servers import (
    DeclaredServers,
    open_servers,
    parse_connections,
    read_connections_file,
    to_json,
)
from evalmesh.cli.connections import parse_connection
from evalmesh.domain.connection import Connection, Egress, origin_of
from evalmesh.domain.errors import EvalmeshError, InvalidInput, NotFound, PermissionDenied
from evalmesh.ports.model_servers import Destination

OPENAI = Connection(
    "openai", ("https://api.openai.com",), "env:OPENAI_KEY", {"X-Org": "secret:team/org"}, "https://api.openai.com/v1"
)
LOCAL = Connection("local", ("http://127.0.0.1:*", "https://*.models.example:8443"), "env:LOCAL_KEY")


class Untouched:
    """Fails the test that lets a key be looked at."""

    def resolve(self, ref):
        raise AssertionError(f"{ref} was resolved")


class Keys:
    def resolve(self, ref):
        return f"value of {ref}" if ref else ""


def refusal(connections=(OPENAI, LOCAL), *, restricted=False, **wanted):
    servers = DeclaredServers(connections, Untouched(), restricted=restricted)
    with pytest.raises(EvalmeshError) as caught:
        servers.admit(Destination(**wanted))
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "http://attacker/v1",
        "http://api.openai.com/v1",  # another scheme
        "https://api.openai.com:8443/v1",  # another port
        "https://api.openai.com.attacker.example/v1",
        "https://xapi.openai.com/v1",
        "https://api.openai.com@attacker.example/v1",
        "https://attacker.example\\@api.openai.com/v1",
        "https://attacker.example#@api.openai.com/v1",
        "https://attacker.example/https://api.openai.com/v1",
        "https:///api.openai.com",
        "https://api.openai.com:0x1bb/",
        "https://аpi.openai.com/v1",  # noqa: RUF001  (a Cyrillic letter)
        "https://evil.example／.api.openai.com/v1",  # noqa: RUF001
    ],
)
@pytest.mark.parametrize(
    "keys",
    [{"key_ref": "env:OPENAI_KEY"}, {"headers": {"X-Any": "secret:team/org"}}, {"connection": "openai"}],
    ids=["key_ref", "header", "connection"],
)
def test_a_key_is_refused_to_every_host_it_is_not_bound_to(url, keys):
    error = refusal(url=url, **keys)
    assert isinstance(error, (PermissionDenied, InvalidInput))
    if isinstance(error, PermissionDenied):
        assert "'openai'" in error.message
        assert "https://api.openai.com" in error.message


@pytest.mark.parametrize("reference", ["env:HOME", "env:AWS_SECRET_ACCESS_KEY", "secret:other/key"])
def test_a_key_that_no_connection_declares_goes_nowhere(reference):
    for url in ("https://api.openai.com/v1", "http://127.0.0.1:8000/v1"):
        for wanted in ({"key_ref": reference}, {"headers": {"Any": reference}}):
            error = refusal(url=url, **wanted)
            assert isinstance(error, PermissionDenied)
            assert "--connection" in error.message


def test_a_key_of_one_connection_is_not_sent_in_the_name_of_another():
    assert isinstance(
        refusal(url="http://127.0.0.1:1/v1", connection="local", key_ref="env:OPENAI_KEY"), PermissionDenied
    )


def test_a_host_header_would_lead_a_key_past_its_host():
    error = refusal(url="https://api.openai.com/v1", key_ref="env:OPENAI_KEY", headers={"hOst": "attacker.example"})
    assert isinstance(error, PermissionDenied)


def test_an_unknown_connection_is_named_with_the_nearest():
    assert "Did you mean 'openai'?" in refusal(url="", connection="opnai").message


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (Destination("https://api.openai.com/v1", key_ref="env:OPENAI_KEY"), "env:OPENAI_KEY"),
        (Destination("https://API.openai.com.:443/v1?api-version=1", key_ref="env:OPENAI_KEY"), "env:OPENAI_KEY"),
        (Destination("", connection="openai"), "env:OPENAI_KEY"),
        (Destination("http://127.0.0.1:8000/v1", key_ref="env:LOCAL_KEY"), "env:LOCAL_KEY"),
        (Destination("https://a.b.models.example:8443", connection="local"), "env:LOCAL_KEY"),
        (Destination("http://anywhere/v1"), ""),
    ],
)
def test_bound_keys_are_sent(wanted, key):
    admitted = DeclaredServers((OPENAI, LOCAL), Keys()).admit(wanted)
    assert admitted.key == (f"value of {key}" if key else "")
    assert key not in repr(admitted) or not key


def test_a_named_connection_brings_its_headers_which_a_spec_may_replace():
    servers = DeclaredServers((OPENAI,), Keys())
    admitted = servers.admit(Destination("", "openai", headers={"x-org": "mine", "X-Team": "a"}))
    assert admitted.headers == {"x-org": "mine", "X-Team": "a"}
    plain = servers.admit(Destination("", "openai"))
    assert plain.complete("https://api.openai.com/v1") == {
        "X-Org": "value of secret:team/org",
        "Authorization": "Bearer value of env:OPENAI_KEY",
    }
    assert set(plain.secrets) == {"value of secret:team/org", "value of env:OPENAI_KEY"}
    assert servers.url_of(Destination("", "openai")) == OPENAI.url


# Addresses


REFUSED = [
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::a9fe:a9fe",
    "fd00:ec2::254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "no address",
]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]
ALLOWED = ["10.1.2.3", "192.168.1.1", "8.8.8.8", "2606:4700::1111", "fd12::1"]


def test_addresses_that_are_never_asked_and_those_that_a_connection_opens():
    restricted, declared = Egress(restricted=True), Egress(restricted=True, loopback=True)
    assert [one for one in REFUSED if not restricted.refuses(one) or not declared.refuses(one)] == []
    assert [one for one in LOOPBACK if not restricted.refuses(one)] == []
    assert [one for one in LOOPBACK if declared.refuses(one)] == []
    assert [one for one in ALLOWED if restricted.refuses(one)] == []
    assert not any(Egress().refuses(one) for one in (*REFUSED, *LOOPBACK, *ALLOWED))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]:80/",
        "http://127.0.0.1:1/v1",
        "http://localhost:1/v1",
        "http://a.localhost/",
        "http://metadata.google.internal/",
        "http://[::ffff:7f00:1]/",
    ],
)
def test_what_the_name_tells_is_refused_without_asking_and_in_one_sentence(url):
    said = refusal((), restricted=True, url=url).message
    assert said == refusal((), restricted=True, url="http://127.0.0.1:2/").message


def test_a_declared_connection_opens_loopback_and_no_other():
    servers = DeclaredServers((LOCAL,), Keys(), restricted=True)
    assert servers.check(Destination("http://127.0.0.1:8000/v1")) == Egress(restricted=True, loopback=True)
    assert servers.check(Destination("http://elsewhere/v1")) == Egress(restricted=True)
    link_local = Connection("odd", ("http://169.254.169.254",))
    with pytest.raises(PermissionDenied):
        DeclaredServers((link_local,), Keys(), restricted=True).check(Destination("http://169.254.169.254/"))


# Declarations


def test_connections_are_read_from_a_file_and_from_json(tmp_path):
    file = tmp_path / "connections.yaml"
    file.write_text(
        "- name: openai\n  url: https://api.openai.com/v1\n  key_ref: env:OPENAI_KEY\n"
        "- {name: team, hosts: ['https://*.team.example'], key_ref: secret:team/key, max_concurrency: 4,\n"
        "   headers: {X-Org: secret:team/org}}\n"
    )
    found = read_connections_file(str(file))
    assert [one.name for one in found] == ["openai", "team"]
    assert found[0].hosts == ("https://api.openai.com",)
    assert found[1].references == {"secret:team/key", "secret:team/org"}
    assert found[1].max_concurrency == 4
    assert parse_connections(to_json(found), "X") == found
    assert read_connections_file("") == parse_connections("", "X") == ()
    with pytest.raises(InvalidInput, match="twice"):
        open_servers(file=str(file), inline=to_json(found[:1]), restricted=True)


KEY = "sk-live-0123456789abcdef"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "a"}, "url, or hosts"),
        ({"url": "https://a"}, "needs a name"),
        ({"name": "a", "url": "https://a", "key_ref": KEY}, "no reference"),
        ({"name": "a", "url": "https://a", "key": KEY}, "did you mean 'key_ref'"),
        ({"name": "a", "hosts": ["*"]}, "scheme://host"),
        ({"name": "a", "hosts": ["https://*"]}, "bound to hosts"),
        ({"name": "a", "hosts": ["api.openai.com"]}, "scheme://host"),
        ({"name": "a", "hosts": ["https://a/path"]}, "scheme://host"),
        ({"name": "a", "hosts": ["https://a"], "url": "https://b/v1"}, "not covered"),
        ({"name": "a", "url": f"https://me:{KEY}@a"}, "no plain"),
        ({"name": "a", "url": "https://a", "max_concurrency": -1}, "count"),
        ({"name": "a", "url": "https://a", "headers": {"A": 1}}, "mapping"),
        (["a"], "write a list"),
    ],
)
def test_what_is_no_connection_is_refused_without_repeating_a_key(values, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        parse_connections(json.dumps([values]), "EVALMESH_CONNECTIONS")
    assert KEY not in caught.value.message


@pytest.mark.parametrize("text", ["{", "3", '"x"', f'[{{"name": "{KEY}"', "[" * 5000])
def test_text_that_is_no_list_of_connections(text):
    with pytest.raises(InvalidInput) as caught:
        parse_connections(text, "EVALMESH_CONNECTIONS")
    assert KEY not in caught.value.message


def test_a_connection_of_the_command_line():
    found = parse_connection("openai=https://api.openai.com/v1?x=1,key=env:OPENAI_KEY,max_concurrency=3")
    assert (found.name, found.key_ref, found.max_concurrency) == ("openai", "env:OPENAI_KEY", 3)
    assert found.covers(origin_of("https://api.openai.com/"))
    assert parse_connection("local=http://127.0.0.1:8000/v1").references == frozenset()
    for wrong in ("openai", "https://api.openai.com", f"a=https://a,key={KEY}", "=https://a"):
        with pytest.raises(InvalidInput) as caught:
            parse_connection(wrong)
        assert KEY not in caught.value.message


def test_a_reference_that_leads_nowhere_is_said_after_the_host_was_found_right():
    servers = open_servers(file="", inline=to_json([OPENAI]), restricted=False)
    with pytest.raises(NotFound):
        servers.admit(Destination("https://api.openai.com/v1", key_ref="env:OPENAI_KEY"))
