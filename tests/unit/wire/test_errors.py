import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from evalmesh.domain import errors
from evalmesh.v1 import runs_pb2, runs_pb2_grpc, scoring_pb2_grpc
from evalmesh.wire.errors import ErrorInterceptor, error_class, from_rpc_error, status_code

ALL = [
    getattr(errors, name)
    for name in dir(errors)
    if isinstance(getattr(errors, name), type)
    and issubclass(getattr(errors, name), errors.EvalmeshError)
    and name != "EvalmeshError"
]


class Servicer(runs_pb2_grpc.RunServiceServicer):
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def GetRun(self, request, context):  # noqa: N802
        raise self.error

    async def WatchRun(self, request, context):  # noqa: N802
        yield runs_pb2.RunEvent(sequence=1)
        raise self.error


@asynccontextmanager
async def serving(error: Exception) -> AsyncIterator[runs_pb2_grpc.RunServiceStub]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    runs_pb2_grpc.add_RunServiceServicer_to_server(Servicer(error), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield runs_pb2_grpc.RunServiceStub(channel)
    finally:
        await server.stop(None)


def test_each_class_has_its_own_code_and_reason():
    assert len({status_code(cls("x")) for cls in ALL}) == len(ALL) == 13
    assert all(error_class(cls.reason) is cls for cls in ALL)
    assert error_class("FROM_THE_FUTURE") is errors.InternalError


@pytest.mark.parametrize("cls", ALL)
async def test_the_client_gets_the_class_message_and_details_the_service_raised(cls):
    raised = cls("Der Name „x“ fehlt: füge ihn hinzu.", {"field": "spec.näme"})
    async with serving(raised) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRun(runs_pb2.GetRunRequest())
    error = from_rpc_error(caught.value)
    assert type(error) is cls
    assert (error.message, error.details) == (raised.message, raised.details)


async def test_a_stream_that_fails_midway_tells_why():
    async with serving(errors.OutOfRange("Sequence 3 is gone.")) as stub:
        call = stub.WatchRun(runs_pb2.WatchRunRequest())
        assert (await call.read()).sequence == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert isinstance(from_rpc_error(caught.value), errors.OutOfRange)


async def test_a_defect_becomes_internal_with_an_id_and_its_text_stays_in_the_log(caplog):
    caplog.set_level(logging.ERROR)
    async with serving(RuntimeError("password=hunter2")) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRun(runs_pb2.GetRunRequest())
    error = from_rpc_error(caught.value)
    assert isinstance(error, errors.InternalError)
    assert "hunter2" not in error.message
    record = next(r for r in caplog.records if error.details["correlation_id"] in r.message)
    assert record.exc_info is not None


async def test_a_message_too_long_for_metadata_is_cut_and_keeps_its_class():
    async with serving(errors.InvalidInput("x" * 50_000, {"field": "y" * 50_000})) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRun(runs_pb2.GetRunRequest())
    error = from_rpc_error(caught.value)
    assert isinstance(error, errors.InvalidInput)
    assert error.message.endswith("[...]")


async def test_nobody_listening_names_the_address_and_the_way_out():
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await runs_pb2_grpc.RunServiceStub(channel).GetRun(runs_pb2.GetRunRequest())
    error = from_rpc_error(caught.value, "127.0.0.1:1")
    assert isinstance(error, errors.Unavailable)
    assert "127.0.0.1:1" in error.message
    assert "evalmesh up" in error.message


async def test_a_server_without_the_call_is_unimplemented():
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await runs_pb2_grpc.RunServiceStub(channel).GetRun(runs_pb2.GetRunRequest())
    await server.stop(None)
    assert isinstance(from_rpc_error(caught.value), errors.Unimplemented)


async def test_bytes_that_are_no_message_are_the_callers_mistake():
    async with raw_channel() as channel:
        for call in (
            channel.unary_unary("/evalmesh.v1.ScoringService/ListScorers")(b"\xff\xff"),
            channel.stream_unary("/evalmesh.v1.ScoringService/ImportCompletions")(iter([b"\xff\xff"])),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()


class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    async def ListScorers(self, request, context):  # noqa: N802
        raise AssertionError("was called")

    async def ImportCompletions(self, request_iterator, context):  # noqa: N802
        async for _ in request_iterator:
            raise AssertionError("was handed something")


@asynccontextmanager
async def raw_channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(Scoring(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
