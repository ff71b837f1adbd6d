"""What happens around every gRPC call of every service."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import Default
from opentelemetry.trace import SpanKind, Status, StatusCode

from evalmesh.runtime.telemetry.instruments import measuring
from evalmesh.runtime.telemetry.metrics import RPC_DURATION
from evalmesh.runtime.telemetry.rooms import enter_room
from evalmesh.runtime.telemetry.traces import adopt_trace, span, tracing

if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = grpc.aio.ServerInterceptor

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]]
_MAKERS = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}
_OURS = "/evalmesh."
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_THEIR_FAULT = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Statuses that are a failure of the server, as the conventions for RPC have it; others are answers."""


class TelemetryInterceptor(_Interceptor):
    """Carries on the caller's trace, so that logs and messages of the call belong to it, in the room that answers."""

    def __init__(self, rooms: Mapping[str, str]) -> None:
        """`rooms`: who answers, by full name of the gRPC service."""
        self._rooms = rooms

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        carrier = {
            key: value for key, value in handler_call_details.invocation_metadata or () if isinstance(value, str)
        }
        # Each call has a task of its own, so room and trace end with it.
        method = handler_call_details.method
        enter_room(self._rooms.get(method.split("/")[1], ""))
        adopt_trace(carrier)
        handler = await continuation(handler_call_details)
        answered: Any = handler  # `None` where nobody serves the method
        if answered is None or not method.startswith(_OURS) or not (tracing() or measuring()):
            return handler
        return _told(handler, _known(method.removeprefix("/")))


@cache
def _methods(service: str) -> frozenset[str]:
    try:
        return frozenset(Default().FindServiceByName(service).methods_by_name)
    except KeyError:
        return frozenset()


def _known(method: str) -> str:
    """What callers make up is not among the names of spans and series."""
    service, _, name = method.partition("/")
    return method if name in _methods(service) else "_OTHER"


def _told(handler: Any, method: str) -> "grpc.RpcMethodHandler[Any, Any]":
    kind = next(kind for kind in _MAKERS if getattr(handler, kind) is not None)
    behaviour = getattr(handler, kind)

    async def call(request: Any, context: Any) -> Any:
        with _call(method, context):
            return await behaviour(request, context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        with _call(method, context):
            async for message in behaviour(request, context):
                yield message

    wrapped: Any = stream if kind.endswith("stream") else call
    make: Any = _MAKERS[kind]
    made: grpc.RpcMethodHandler[Any, Any] = make(wrapped, handler.request_deserializer, handler.response_serializer)
    return made


@contextmanager
def _call(method: str, context: Any) -> Iterator[None]:
    began, status = time.perf_counter(), "CANCELLED"
    aborted: grpc.aio.AbortError | None = None
    try:
        with span(method, {"rpc.system.name": "grpc", "rpc.method": method}, SpanKind.SERVER) as current:
            try:
                yield
                status = "OK"
            except grpc.aio.AbortError as error:
                aborted, status = error, _status(context)
            current.set_attribute("rpc.response.status_code", status)
            if status in _THEIR_FAULT:
                current.set_attribute("error.type", status)
                current.set_status(Status(StatusCode.ERROR))
    finally:
        RPC_DURATION.record(time.perf_counter() - began, "grpc", method, status)
    if aborted is not None:
        raise aborted


def _status(context: Any) -> str:
    code = context.code()
    return str(code.name if isinstance(code, grpc.StatusCode) else _NAMES.get(code, "UNKNOWN"))
