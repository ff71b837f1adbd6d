"""Who may call the gRPC server of a service: its address, how a caller is told apart, and the transport."""

import hashlib
import hmac
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio

from evalmesh.domain.errors import InvalidInput, Unauthenticated
from evalmesh.runtime.settings import RoomSettings

if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = grpc.aio.ServerInterceptor

_LEAST_CHARS = 16
_OPEN = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
"""What probes ask, which have no token; it says nothing but whether the service works."""
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]]


class Authenticator(Protocol):
    """Tells who calls."""

    def identify(self, metadata: Mapping[str, str]) -> str:
        """A name for the caller, from the metadata of the call. Raises `Unauthenticated`."""
        ...


class Tokens:
    """Whoever shows one of the tokens is let in; there may be two while one replaces the other."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._known = tuple(_digest(token) for token in tokens)

    def identify(self, metadata: Mapping[str, str]) -> str:
        """See the protocol. Takes the same time for each wrong token."""
        scheme, _, shown = metadata.get("authorization", "").partition(" ")
        given = shown.strip() if scheme.lower() == "bearer" else ""
        digest = _digest(given)
        # All are compared, so that the time tells neither which one was near nor how long they are.
        if not sum(hmac.compare_digest(digest, known) for known in self._known):
            wrong = "the token of this call is not this platform's" if given else "this call brings no token"
            raise Unauthenticated(
                f"Nobody is let in without a token, and {wrong}; give it in EVALMESH_TOKEN, in a file that "
                "EVALMESH_TOKEN_FILE names, or as AsyncClient(address, token=...). A platform that the same user "
                "started on this machine is entered without."
            )
        return "token"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Anyone:
    """No caller is asked for anything: only where the operator said so (EVALMESH_AUTH=none)."""

    def identify(self, metadata: Mapping[str, str]) -> str:
        """Everybody is nobody in particular."""
        del metadata
        return ""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where a server listens and whom it lets in."""

    address: str
    authenticator: Authenticator
    tls: grpc.ServerCredentials | None = field(default=None, repr=False)


def entrance_of(settings: RoomSettings) -> Entrance:
    """As the settings say. Raises `InvalidInput` where nothing says who may call, or a file cannot be used."""
    tls = _server_credentials(settings)
    if settings.auth == "none":
        return Entrance(settings.address, Anyone(), tls)
    if not settings.auth_token_file:
        raise InvalidInput(
            f"EVALMESH_AUTH_TOKEN_FILE is not set, so nobody could tell who calls {settings.room} at "
            f"{settings.address}: write a secret into a file that only this service can read (e.g. `openssl rand "
            "-base64 32 > FILE`), name it there, and give callers the same secret as EVALMESH_TOKEN_FILE. "
            "EVALMESH_AUTH=none lets everybody in who reaches the port.",
            {"field": "auth_token_file"},
        )
    return Entrance(settings.address, Tokens(read_tokens(settings.auth_token_file, "EVALMESH_AUTH_TOKEN_FILE")), tls)


def read_tokens(path: str, setting: str) -> tuple[str, ...]:
    """The tokens of a file, one a line; callers show the first. Raises `InvalidInput`; never repeats one."""
    tokens = tuple(line.strip() for line in _read(path, setting).decode("ascii", "replace").splitlines())
    found = tuple(token for token in tokens if token)
    if not found or any(len(token) < _LEAST_CHARS or not token.isascii() or " " in token for token in found):
        raise InvalidInput(
            f"{setting}: {path!r} holds no token, or one that is too short; write at least {_LEAST_CHARS} letters and "
            "digits in one line (two lines while a new token replaces an old one).",
            {"field": "auth_token_file"},
        )
    return found


def peer_credentials(settings: RoomSettings) -> grpc.ChannelCredentials | None:
    """For calls to other services: TLS where EVALMESH_TLS_CA_FILE is set, with the own certificate if there is one.

    Raises `InvalidInput` for a file that cannot be used.
    """
    if not settings.tls_ca_file:
        return None
    own = settings.tls_cert_file and settings.tls_key_file
    return grpc.ssl_channel_credentials(
        _read(settings.tls_ca_file, "EVALMESH_TLS_CA_FILE"),
        _read(settings.tls_key_file, "EVALMESH_TLS_KEY_FILE") if own else None,
        _read(settings.tls_cert_file, "EVALMESH_TLS_CERT_FILE") if own else None,
    )


def _server_credentials(settings: RoomSettings) -> grpc.ServerCredentials | None:
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        raise InvalidInput(
            "EVALMESH_TLS_CERT_FILE and EVALMESH_TLS_KEY_FILE go together; set both, or neither for plain text.",
            {"field": "tls_cert_file"},
        )
    if settings.tls_client_certs and not (settings.tls_cert_file and settings.tls_ca_file):
        raise InvalidInput(
            "EVALMESH_TLS_CLIENT_CERTS needs EVALMESH_TLS_CERT_FILE, EVALMESH_TLS_KEY_FILE and EVALMESH_TLS_CA_FILE.",
            {"field": "tls_client_certs"},
        )
    if not settings.tls_cert_file:
        return None
    pair = (
        _read(settings.tls_key_file, "EVALMESH_TLS_KEY_FILE"),
        _read(settings.tls_cert_file, "EVALMESH_TLS_CERT_FILE"),
    )
    known = _read(settings.tls_ca_file, "EVALMESH_TLS_CA_FILE") if settings.tls_client_certs else None
    return grpc.ssl_server_credentials([pair], known, settings.tls_client_certs)


def web_encryption(settings: RoomSettings) -> ssl.SSLContext | None:
    """For what the service shows over HTTP: TLS with the certificate of its gRPC server, if that has one.

    Raises `InvalidInput` for files that are no pair.
    """
    if not settings.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except OSError as error:
        raise InvalidInput(
            f"EVALMESH_TLS_CERT_FILE: {settings.tls_cert_file!r} and its key cannot be used: "
            f"{error.strerror or error}.",
            {"field": "tls_cert_file"},
        ) from error
    return context


def _read(path: str, setting: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{setting}: {path!r} cannot be read: {error.strerror}.", {"field": setting}) from None


class EntranceInterceptor(_Interceptor):
    """Turns away whoever is not known, before anything of the call is read."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        if handler_call_details.method in _OPEN:
            return await continuation(handler_call_details)
        shown = {key: value for key, value in handler_call_details.invocation_metadata or () if isinstance(value, str)}
        try:
            self._authenticator.identify(shown)
        except Unauthenticated as error:
            return _refusal(error)
        return await continuation(handler_call_details)


def _refusal(error: Unauthenticated) -> "grpc.RpcMethodHandler[Any, Any]":
    async def refuse(requests: Any, context: Any) -> None:
        del requests, context
        raise error

    # Streams fit calls of every kind.
    return grpc.stream_stream_rpc_method_handler(refuse)
