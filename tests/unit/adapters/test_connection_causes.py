"""Why there is no connection is said without the names of libraries."""

import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from evalmesh.adapters.load_http.causes import cause_of
from evalmesh.adapters.load_http.compatible import proxy_cause
from evalmesh.load.measure.records import printable

KEY = ConnectionKey("proxy.example", 3128, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
NOT_KNOWN = "the name of the host is not known (Name or service not known)"
UNKNOWN = socket.gaierror(-2, "Name or service not known")


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:1006)")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 9)"), "connection refused"),
        (UNKNOWN, NOT_KNOWN),
        (OSError(None, "no route"), "no route"),
        (TimeoutError(), "TimeoutError"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ENETUNREACH, "x")), "network is unreachable"),
        (
            aiohttp.ClientConnectorDNSError(KEY, UNKNOWN),
            "the name of the host is not known (Name or service not known)",
        ),
    ],
)
def test_the_cause_in_words(error: Exception, said: str) -> None:
    assert cause_of(error) == said


def test_a_certificate_names_the_way_out() -> None:
    for error in (untrusted(), aiohttp.ClientConnectorCertificateError(KEY, untrusted())):
        said = cause_of(error)
        assert "certificate has expired" in said
        assert "ca_file" in said
        assert "insecure" in said
        assert "_ssl.c" not in said


def test_a_proxy_is_called_one() -> None:
    refused = aiohttp.ClientProxyConnectionError(KEY, OSError(errno.ECONNREFUSED, "x"))
    assert proxy_cause(refused).startswith("the proxy of the environment")
    assert "proxy.example:3128: connection refused" in proxy_cause(refused)
    assert "no_proxy" in proxy_cause(refused)
    assert proxy_cause(OSError(errno.ECONNREFUSED, "x")) == ""


def test_what_a_server_said_is_one_line_that_no_terminal_obeys() -> None:
    assert printable("a\r\n\t b\x1b[31m \x00ü 世界") == "a b\ufffd[31m \ufffdü 世界"
