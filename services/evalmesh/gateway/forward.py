"""One public address: calls to the other services' APIs are passed on as they are, byte for byte."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from evalmesh.domain.errors import Unavailable
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.errors import DETAILS_KEY, REASON_KEY

_PASSED_ON = ("traceparent", "tracestate")


def _bytes(data: bytes) -> bytes:
    return data


class Forwarder(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Passes calls of the given gRPC services to where those services are.

    The caller's token is for the gateway, which has looked at it; the services are shown the gateway's own.
    """

    def __init__(self, routes: Mapping[str, Callable[[], grpc.aio.Channel]], token: str = "") -> None:
        self._routes = routes
        self._own = bearer(token)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """The handler of one call; `None` for services that are not routed."""
        method = handler_call_details.method
        open_channel = self._routes.get(method.split("/")[1])
        if open_channel is None:
            return None

        async def forward(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            call = open_channel().stream_stream(method, request_serializer=_bytes, response_deserializer=_bytes)(
                requests, metadata=(*_trace(context), *self._own), timeout=context.time_remaining()
            )
            try:
                async for answer in call:
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise_if_away(error, method.split("/")[1])
                given: Any = error.trailing_metadata() or ()
                trailing = tuple((key, value) for key, value in given if key in {REASON_KEY, DETAILS_KEY})
                await context.abort(error.code(), error.details() or "", trailing)
            finally:
                call.cancel()

        return grpc.stream_stream_rpc_method_handler(forward, _bytes, _bytes)


_ROOMS = {
    "BenchmarkService": "dataset_loader",
    "ModelService": "model_runner",
    "ScoringService": "scorer",
    "LoadService": "load_generator",
    "ReportService": "report_aggregator",
}


def raise_if_away(error: grpc.aio.AioRpcError, service: str) -> None:
    """Raises `Unavailable` when the service behind the gateway did not answer; what it answered is left alone."""
    trailing: Any = error.trailing_metadata() or ()
    answered = any(key == REASON_KEY for key, _ in trailing)
    if error.code() is grpc.StatusCode.UNAVAILABLE and not answered:
        raise Unavailable(
            f"The gateway cannot reach {service} now: {error.details()}. Try again; if it stays away, check that "
            f"{_program(service)} runs and that the gateway has its address.",
            {"service": service},
        ) from error


def _program(service: str) -> str:
    """What serves it, as it is started."""
    room = _ROOMS.get(service.rpartition(".")[2])
    return f"`python -m evalmesh.{room}`" if room else "its service"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def _trace(context: Any) -> list[tuple[str, str]]:
    passed = {key: value for key, value in context.invocation_metadata() or () if key in _PASSED_ON}
    return list({**passed, **current_trace()}.items())
