"""What happens around every gRPC call of every service."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from evalmesh.runtime.telemetry import adopt_trace

if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = grpc.aio.ServerInterceptor

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]]


class TelemetryInterceptor(_Interceptor):
    """Carries on the caller's trace, so that logs and messages of the call belong to it."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        carrier = {
            key: value for key, value in handler_call_details.invocation_metadata or () if isinstance(value, str)
        }
        # Each call has a task of its own, so the adopted trace ends with it.
        adopt_trace(carrier)
        return await continuation(handler_call_details)
