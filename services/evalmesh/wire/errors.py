"""Domain errors as gRPC statuses, and back: the SDK raises what the service raised.

The status code says the class to any gRPC client. Trailing metadata carries the rest for ours: `evalmesh-reason` and,
as JSON, `evalmesh-details-bin`.
"""

import inspect
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from evalmesh.domain import errors

REASON_KEY = "evalmesh-reason"
DETAILS_KEY = "evalmesh-details-bin"

_MAX_MESSAGE_CHARS = 2000
"""Metadata of a call is limited to 8 KiB by default; a longer text would replace the whole status by an error."""
_MAX_DETAILS_BYTES = 2000

_CODES: dict[type[errors.EvalmeshError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
_BY_CODE = {code: cls for cls, code in _CODES.items()}
_BY_REASON: dict[str, type[errors.EvalmeshError]] = {cls.reason: cls for cls in _CODES}

_log = logging.getLogger(__name__)


def status_code(error: errors.EvalmeshError) -> grpc.StatusCode:
    """The code of the nearest class in the table; `INTERNAL` for a bare `EvalmeshError`."""
    for cls in type(error).__mro__:
        if cls in _CODES:
            return _CODES[cls]
    return grpc.StatusCode.INTERNAL


def error_class(reason: str) -> type[errors.EvalmeshError]:
    """The class of a reason, as stored in run records; `InternalError` for one this build does not know."""
    return _BY_REASON.get(reason, errors.InternalError)


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", error: errors.EvalmeshError) -> NoReturn:
    """Ends the call with the status of `error`."""
    message = error.message
    if len(message) > _MAX_MESSAGE_CHARS:
        message = f"{message[:_MAX_MESSAGE_CHARS]} [...]"
    details = json.dumps(error.details).encode()
    if len(details) > _MAX_DETAILS_BYTES:
        details = b"{}"
    metadata = ((REASON_KEY, error.reason), (DETAILS_KEY, details))
    await context.abort(status_code(error), message, metadata)
    raise AssertionError("abort returned")  # pragma: no cover


if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    # Generic in the type stubs only.
    _Interceptor = grpc.aio.ServerInterceptor


class ErrorInterceptor(_Interceptor):
    """Turns what a servicer raises into a status. A defect becomes `INTERNAL` with an id to look up in the log."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps asynchronous handlers; a plain function would be run in a thread by gRPC and passes as it is."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler  # gRPC answers UNIMPLEMENTED
        method = getattr(handler_call_details, "method", "")
        for kind, make in (
            ("unary_unary", grpc.unary_unary_rpc_method_handler),
            ("unary_stream", grpc.unary_stream_rpc_method_handler),
            ("stream_unary", grpc.stream_unary_rpc_method_handler),
            ("stream_stream", grpc.stream_stream_rpc_method_handler),
        ):
            behaviour = getattr(handler, kind)
            if behaviour is None:
                continue
            if inspect.isasyncgenfunction(behaviour):
                wrapped: Any = _guard_stream(behaviour, method)
            elif inspect.iscoroutinefunction(behaviour):
                wrapped = _guard_call(behaviour, method)
            else:
                break
            return make(wrapped, _lenient(handler.request_deserializer), handler.response_serializer)
        return handler


def _guard_call(behaviour: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await behaviour(_readable(request), context)
        except Exception as error:  # noqa: BLE001  # the one place where any exception becomes a status
            await _abort_any(context, error, method)

    return call


def _guard_stream(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], method: str
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in behaviour(_readable(request), context):
                yield message
        except Exception as error:  # noqa: BLE001  # as above
            await _abort_any(context, error, method)

    return stream


class _Unreadable:
    """Stands for bytes that are no message: gRPC itself would answer as if the server had failed."""


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialize is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


def _readable(request: Any) -> Any:
    """The request, or the stream of requests. Raises `InvalidInput`, in the stream when it comes to it."""
    if isinstance(request, _Unreadable):
        raise errors.InvalidInput("The request is no message of this call; send what its .proto file describes.")
    return _all_readable(request) if hasattr(request, "__aiter__") else request


async def _all_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)


async def _abort_any(context: Any, error: Exception, method: str) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, errors.EvalmeshError):
        await abort(context, error)
    correlation = uuid.uuid4().hex[:12]
    _log.error("%s failed [%s]", method, correlation, exc_info=error, extra={"correlation_id": correlation})
    # The exception's own text stays in the log: it may hold what a client must not see.
    await abort(
        context,
        errors.InternalError(
            f"The service hit a defect ({type(error).__name__}); its log has the details under id {correlation}.",
            {"correlation_id": correlation},
        ),
    )


def from_rpc_error(error: grpc.RpcError, address: str = "") -> errors.EvalmeshError:
    """The domain error behind a failed call; `address` is named where nobody answered there.

    Works for errors of `grpc` and of `grpc.aio`. Statuses that evalmesh did not set itself (a proxy, a dead peer, the
    deadline of the client) are recognised by the missing reason and explained.
    """
    code, text, metadata = _parts(error)
    if REASON_KEY in metadata:
        cls = _BY_REASON.get(str(metadata[REASON_KEY])) or _BY_CODE.get(code, errors.InternalError)
        return cls(text, _details(metadata.get(DETAILS_KEY, b"{}")))
    where = address or "the given address"
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return errors.Unavailable(
            f"No evalmesh platform answers at {where}: {text or code.name}. Start one with `evalmesh up`, or name "
            f"another address with --server or EVALMESH_SERVER.",
            {"address": address},
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(
            f"The platform at {where} did not answer in time. Try again, or raise the client's timeout_s.",
            {"address": address},
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.Unimplemented(
            f"The server at {where} does not know this call: {text}. Check that it is an evalmesh gateway of the "
            f"same version as this client.",
            {"address": address},
        )
    return _BY_CODE.get(code, errors.InternalError)(text or f"The call failed with {code.name}.")


def _parts(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, dict[str, str | bytes]]:
    # Both stacks' errors have these three methods; the base class RpcError declares none of them.
    call: Any = error
    code = call.code() if callable(getattr(call, "code", None)) else None
    text = call.details() if callable(getattr(call, "details", None)) else str(error)
    trailing = call.trailing_metadata() if callable(getattr(call, "trailing_metadata", None)) else None
    return code or grpc.StatusCode.UNKNOWN, text or "", dict(tuple(pair) for pair in trailing or ())


def _details(data: str | bytes) -> dict[str, str]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
