"""Calls over one gRPC channel: credentials, trace context, deadlines, retries, errors as domain classes."""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from opentelemetry import propagate

from evalmesh.domain.errors import LOADING, EvalmeshError, InvalidInput, Unavailable
from evalmesh.sdk.tokens import token_for
from evalmesh.wire.errors import from_rpc_error

_TRIES = 5
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_LOADING_PAUSE_S = 0.5
_LOOPBACK = ("127.", "localhost", "[::1]", "unix:")


def backoff_s(failures: int) -> float:
    """Pause after the n-th failure in a row: exponential with full jitter, never longer than 2 s."""
    ceiling = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2**failures)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311  (spreads clients, protects nothing)


class Channel:
    """One connection to a gateway, opened at the first call."""

    def __init__(
        self,
        address: str,
        token: str | None,
        timeout_s: float,
        credentials: grpc.ChannelCredentials | None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        scheme, separated, rest = address.partition("://")
        self.address = rest if separated and scheme in {"https", "grpcs"} else address
        if self.address != address and credentials is None:
            credentials = _trusted()
        self._token = token_for(self.address, token)
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._on_wait = on_wait
        self._channel: grpc.aio.Channel | None = None

    def stub(self, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        """The stub of a service on this channel."""
        if self._channel is None:
            options: list[tuple[str, Any]] = [
                ("grpc.max_receive_message_length", 64 << 20),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 2000),
                # A proxy for the world outside cannot reach this machine.
                ("grpc.enable_http_proxy", 0 if self.address.startswith(_LOOPBACK) else 1),
            ]
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.address, options=options)
            else:
                self._channel = grpc.aio.secure_channel(self.address, self._credentials, options=options)
        return make(self._channel)

    def metadata(self) -> list[tuple[str, str]]:
        """W3C trace context of the caller, if there is any, and the token."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        if token := self._token():
            carrier["authorization"] = f"Bearer {token}"
        return list(carrier.items())

    async def call(self, method: Any, request: Any, *, idempotent: bool, timeout_s: float | None = None) -> Any:
        """One answer. With `idempotent`, `Unavailable` is tried again for about a second.

        Unless it names a field: then it is the endpoint the caller named that does not answer, and not the platform.
        What is being loaded is waited for as long as it takes.
        """
        said = ""
        while True:
            try:
                return await self._call(method, request, timeout_s or self._timeout_s, idempotent=idempotent)
            except Unavailable as error:
                if LOADING not in error.details:
                    raise
                if error.message != said and self._on_wait is not None:
                    self._on_wait(error.message)
                said = error.message
            await asyncio.sleep(_LOADING_PAUSE_S)

    async def _call(self, method: Any, request: Any, timeout_s: float, *, idempotent: bool) -> Any:
        for failures in range(_TRIES):
            try:
                return await method(request, timeout=timeout_s, metadata=self.metadata())
            except grpc.aio.AioRpcError as error:
                translated = from_rpc_error(error, self.address)
                again = idempotent and isinstance(translated, Unavailable) and "field" not in translated.details
                if not again or failures == _TRIES - 1:
                    raise translated from None
            await asyncio.sleep(backoff_s(failures))
        raise AssertionError("unreachable")  # pragma: no cover

    async def stream(self, method: Any, request: Any) -> AsyncGenerator[Any, None]:
        """Answers one by one, without a deadline; closing the iterator ends the call."""
        call = method(request, metadata=self.metadata())
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None
        finally:
            call.cancel()

    async def upload(self, method: Any, requests: AsyncIterator[Any]) -> Any:
        """Sends a stream, gets one answer."""
        try:
            return await method(requests, metadata=self.metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None

    async def close(self) -> None:
        """Ends calls in flight."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close(None)


def _trusted() -> grpc.ChannelCredentials:
    """TLS with the authorities of EVALMESH_TLS_CA_FILE, else the usual ones. Raises `InvalidInput`."""
    path = os.environ.get("EVALMESH_TLS_CA_FILE", "")
    try:
        return grpc.ssl_channel_credentials(Path(path).expanduser().read_bytes() if path else None)
    except OSError as error:
        message = f"EVALMESH_TLS_CA_FILE: {path!r} cannot be read: {error.strerror}."
        raise InvalidInput(message, {"field": "server"}) from None


OnLost = Callable[[str], None]
"""Told why a connection is lost, and with an empty text that it is there again."""


class Patience:
    """How long a broken watch is tried again: gives up when nothing was heard for `limit_s`."""

    def __init__(self, limit_s: float, on_lost: OnLost | None = None) -> None:
        self._limit_s = limit_s
        self._on_lost = on_lost
        self._failures = 0
        self._deadline: float | None = None

    def heard(self) -> None:
        """Something came: all is forgiven."""
        if self._failures > 1 and self._on_lost is not None:
            self._on_lost("")
        self._failures = 0
        self._deadline = None

    async def pause(self, error: EvalmeshError) -> None:
        """Waits before the next try, or raises `error`."""
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._limit_s
        if now >= self._deadline:
            raise error
        self._failures += 1
        # A connection that is there again at once is not worth a word.
        if self._failures == 2 and self._on_lost is not None:
            self._on_lost(error.message)
        await asyncio.sleep(backoff_s(self._failures))
