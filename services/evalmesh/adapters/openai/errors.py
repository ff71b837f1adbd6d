"""What can go wrong with one try, in the words of `domain.completion.ErrorClass`."""

import asyncio
import errno
import ssl
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

from evalmesh.adapters.guarded_sockets import FORBIDDEN, is_forbidden
from evalmesh.adapters.proxies import PROXY
from evalmesh.adapters.tls import TRUST
from evalmesh.dialect.answer import Fault
from evalmesh.dialect.errors import Said, said_in_body
from evalmesh.domain.completion import ErrorClass

MESSAGE_CHARS = 500

_RETRIED_4XX: dict[int, ErrorClass] = {408: "timeout", 409: "server", 425: "server", 429: "rate_limited"}
_OVERLOADED = frozenset({408, 429, 503, 529})
_MIN_SECRET_CHARS = 4
"""Shorter "keys" are placeholders such as `x`; blanking every x would make messages unreadable."""


_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
NO_FILES_TEXT = (
    "evalmesh has no file descriptor left for another connection, so fewer requests are sent at once; allow more with "
    "`ulimit -n`, or ask for less with --eval-batch-size."
)
_LOOKED_AT_CHARS = 8 * MESSAGE_CHARS


class Failure(msgspec.Struct, frozen=True):
    """How one try failed and what that means for the next."""

    error_class: ErrorClass
    message: str
    http_status: int | None = None
    retryable: bool = True
    overload: bool = False
    """The server asks for less: lower the concurrency."""
    retry_after_s: float | None = None
    short_of_files: bool = False
    """Nothing was sent, for want of a file descriptor here."""


class Redactor:
    """Blanks secrets out of texts that came from outside."""

    __slots__ = ("_secrets", "_seen")

    def __init__(self, secrets: Iterable[str]) -> None:
        # Longest first: a secret may contain another.
        self._secrets = sorted({s for s in secrets if len(s) >= _MIN_SECRET_CHARS}, key=len, reverse=True)
        self._seen = _LOOKED_AT_CHARS + sum(map(len, self._secrets))

    def __call__(self, text: str) -> str:
        """The text without secrets, on one line, cut to `MESSAGE_CHARS`."""
        start = text[: self._seen]
        for secret in self._secrets:
            start = start.replace(secret, "***")
        if len(text) > self._seen and self._secrets:
            start = start[: -len(self._secrets[0])]  # A secret that was cut in two is not recognised.
        text = " ".join(start.split())
        return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


def failure_of_status(status: int, body: bytes, headers: Mapping[str, str], redact: Redactor) -> Failure:
    """Classifies an answer other than 2xx."""
    said, code = said_in_body(body)
    message = redact(f"The endpoint answered {status}: {said or 'no message'}{_hint(status, headers)}")
    if status in {401, 403}:
        return Failure("auth", message, status, retryable=False)
    if status == 429 and code == "insufficient_quota":
        # No wait brings a spent quota back.
        return Failure("rate_limited", message, status, retryable=False)
    if status >= 500:
        error_class: ErrorClass = "server"
    elif status in _RETRIED_4XX:
        error_class = _RETRIED_4XX[status]
    else:
        return Failure("bad_request", message, status, retryable=False)
    return Failure(
        error_class,
        message,
        status,
        overload=status in _OVERLOADED,
        retry_after_s=parse_retry_after(headers, time.time()),
    )


def failure_of_fault(fault: Fault, redact: Redactor) -> Failure:
    """Classifies what is wrong with an answer that began as 200; gateways and streams report late errors so."""
    if fault.kind != "reported":
        error_class: ErrorClass = "truncated" if fault.kind == "truncated" else "malformed"
        return Failure(error_class, redact(fault.message), retryable=not fault.final)
    said = Said(fault.message, fault.code)
    status = said.status
    message = redact(f"The endpoint reported an error in its answer: {said.message or 'no message'}")
    if status is None or status >= 500:
        return Failure("server", message, status, overload=status in _OVERLOADED)
    if status in {401, 403}:
        return Failure("auth", message, status, retryable=False)
    if status in _RETRIED_4XX:
        return Failure(_RETRIED_4XX[status], message, status, overload=status in _OVERLOADED)
    return Failure("bad_request", message, status, retryable=False)


def failure_of_exception(error: BaseException, where: str, timeout_s: float, redact: Redactor) -> Failure:
    """Classifies what the HTTP client raised; `where` is the address to name, without query."""
    if getattr(getattr(error, "os_error", error), "errno", None) in _NO_FILES:
        return Failure("connect", NO_FILES_TEXT, short_of_files=True)
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        # Neither a certificate becomes right by asking again, nor an address allowed.
        again = not _is_tls(error) and not is_forbidden(error)
        return Failure("connect", redact(explain_connect(error, where)), retryable=again)
    if isinstance(error, asyncio.TimeoutError):
        return Failure("timeout", f"No complete answer from {where} within {timeout_s:.3g} s.", overload=True)
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError)):
        said = f"The connection to {where} broke before the answer was complete: {error}"
        # A server with few connections ends some before it has answered anything.
        return Failure("reset", redact(said), overload=not isinstance(error, aiohttp.ClientPayloadError))
    if isinstance(error, aiohttp.ClientError):
        return _failure_of_answer(error, where, redact)
    kind = type(error).__name__
    return Failure("internal", redact(f"Asking {where} failed in evalmesh itself: {kind}: {error}"), retryable=False)


def _failure_of_answer(error: aiohttp.ClientError, where: str, redact: Redactor) -> Failure:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        said = f"{PROXY} did not let the request to {where} through: it answered {error.status}"
        return Failure("connect", redact(f"{said}; no_proxy names hosts to reach without it."))
    return Failure("malformed", redact(f"{where} does not answer in HTTP as expected: {error}"))


def explain_connect(error: BaseException, where: str) -> str:
    """Why no connection came about, in plain words, with what to check."""
    if is_forbidden(error):
        return f"{where}: {FORBIDDEN}."
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return (
            f"No connection to {where}: {PROXY}, {error.host}:{error.port}, is not there; no_proxy names hosts to "
            "reach without it."
        )
    return _explain_failed_connect(error, where)


def _explain_failed_connect(error: BaseException, where: str) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"The host name in {where} cannot be resolved (DNS); check its spelling and the name server."
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return f"The TLS certificate of {where} is not trusted ({_reason(error)}); {TRUST}."
    if _is_tls(error):
        return f"No TLS connection with {where} ({error}); does the server speak http:// instead of https://?"
    if isinstance(error, asyncio.TimeoutError):
        return f"{where} does not accept connections in time; check the address, the port and firewalls."
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ConnectionRefusedError) or "refused" in str(cause).lower():
        return f"Nothing listens at {where} (connection refused); is the server started, and the port right?"
    return f"No connection to {where}: {cause}; check the address and the network."


def _reason(error: BaseException) -> str:
    """Without names of OpenSSL's functions and lines, which `str` puts around it."""
    inner = getattr(error, "certificate_error", error)
    return str(getattr(inner, "verify_message", "") or inner).rstrip(".")


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks to wait: `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), or in ms.

    `now` is Unix time. A past date is 0; what cannot be read is `None`.
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) / scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - now
            except (ValueError, OverflowError):
                continue
        if seconds == seconds:  # NaN  # noqa: PLR0124
            return max(0.0, seconds)
    return None


def _is_tls(error: BaseException) -> bool:
    return isinstance(error, (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError, ssl.SSLError))


def _hint(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        return f" (it redirects to {headers.get('location', 'nowhere')}; use that address as the model's url)"
    if status == 404:
        return " (check the model's name, and that its url ends in the version, as in http://host:8000/v1)"
    return ""
