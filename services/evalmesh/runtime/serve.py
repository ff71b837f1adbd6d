"""Runs services: one gRPC server with health and reflection, their loops, signals, drain."""

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from evalmesh.domain.errors import EvalmeshError, InvalidInput, Unavailable
from evalmesh.runtime.descriptors import allow_all_descriptors
from evalmesh.runtime.entrance import Entrance, EntranceInterceptor, entrance_of, web_encryption
from evalmesh.runtime.garbage import keep_what_is_loaded
from evalmesh.runtime.interceptors import TelemetryInterceptor
from evalmesh.runtime.service import Service
from evalmesh.runtime.settings import RoomSettings, explain
from evalmesh.runtime.telemetry import begin_room, configure_logging
from evalmesh.runtime.telemetry.opening import telemetry_sent
from evalmesh.wire.errors import ErrorInterceptor

_LOG = logging.getLogger(__name__)
_ORPHAN_S = 4.0
"""A service whose parent died is gone after this: time enough to keep what is finished."""
_HEALTH_S = 0.5
_OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20)]


class ServiceHost:
    """Hosts one or more services behind one entrance."""

    def __init__(self, services: Sequence[Service], entrance: Entrance) -> None:
        self._services = services
        self._entrance = entrance
        self._server: grpc.aio.Server | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._health = HealthServicer()
        self._told: dict[str, bool] = {}
        self.port = 0
        """The port it listens on, after `start`."""

    async def start(self) -> None:
        """Listens and starts the loops. Raises `InvalidInput` when the address cannot be had."""
        # Kept in no frame: a start that is cancelled would hold on to the server until its event loop is closed.
        self._server = self._make_server()
        await self._server.start()
        self._loops = [
            asyncio.create_task(self._keep(service.name, loop), name=f"{service.name}:{index}")
            for service in self._services
            for index, loop in enumerate(service.loops)
        ]
        await self._tell_health()
        self._loops.append(asyncio.create_task(self._follow_health(), name="health"))
        _LOG.info("serving %s on port %d", ", ".join(s.name for s in self._services), self.port)

    @property
    def _names(self) -> list[str]:
        return [name for service in self._services for name in service.grpc_services]

    def _make_server(self) -> grpc.aio.Server:
        entrance = self._entrance
        rooms = {name: service.name for service in self._services for name in service.grpc_services}
        interceptors = (TelemetryInterceptor(rooms), ErrorInterceptor(), EntranceInterceptor(entrance.authenticator))
        server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS)
        for service in self._services:
            if service.mount is not None:
                service.mount(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        try:
            if entrance.tls is None:
                self.port = server.add_insecure_port(entrance.address)
            else:
                self.port = server.add_secure_port(entrance.address, entrance.tls)
        except RuntimeError as error:
            raise InvalidInput(
                f"address: {entrance.address!r} cannot be listened on: its port is taken, or it is no address of this "
                f"machine; give another one.",
                {"field": "address"},
            ) from error
        return server

    async def _tell_health(self) -> None:
        """A service whose bus is away accepts nothing: whoever balances load should send its callers elsewhere."""
        ready = {service.name: service.ready is None or service.ready() for service in self._services}
        now = {name: ready[service.name] for service in self._services for name in service.grpc_services}
        now[""] = all(ready.values())
        for name, good in now.items():
            if self._told.get(name) is not good:
                status = health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
                await self._health.set(name, status)
        self._told = now

    async def _follow_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_S)
            await self._tell_health()

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """A loop that ends or fails is a defect: log it and start it again, with a pause."""
        begin_room(name)
        while True:
            try:
                await loop()
                _LOG.error("a loop of %s ended; starting it again", name)
            except asyncio.CancelledError:
                raise
            except Exception:  # noqa: BLE001  (whatever it was is logged, and the loop goes on)
                _LOG.exception("a loop of %s failed; starting it again", name)
            await asyncio.sleep(1.0)

    async def stop(self, grace_s: float = 1.0) -> None:
        """Says not-serving, drains the loops, ends the calls, frees what the services hold."""
        await self._health.enter_graceful_shutdown()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)
        for service in self._services:
            if service.close is not None:
                with contextlib.suppress(Exception):
                    await service.close()


@asynccontextmanager
async def metrics_shown(address: str, entrance: Entrance, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """`/metrics` at the address while the block lasts; with an empty one nothing is counted. Raises `InvalidInput`."""
    if not address:
        yield
        return
    from evalmesh.runtime.telemetry.page import served_metrics  # noqa: PLC0415  (brings an HTTP server)

    async with served_metrics(address, entrance.authenticator, tls):
        yield


class _EndOfInput(asyncio.Protocol):
    """A parent that dies, however suddenly, closes the pipe.

    The bus was its child too, so what waits for an answer of the bus would wait in vain.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (given by asyncio)
        self._stop.set()
        asyncio.get_running_loop().call_later(_ORPHAN_S, os._exit, 1)


async def serve(services: Sequence[Service], settings: RoomSettings) -> None:
    """Hosts the services until SIGTERM or SIGINT (or the end of a parent process), then drains."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.end_with_stdin:
        await loop.connect_read_pipe(lambda: _EndOfInput(stop), sys.stdin)
    entrance = entrance_of(settings)
    host = ServiceHost(services, entrance)
    async with metrics_shown(settings.metrics_address, entrance, web_encryption(settings)):
        await _hosted(host, services, settings, stop)


async def _hosted(host: ServiceHost, services: Sequence[Service], settings: RoomSettings, stop: asyncio.Event) -> None:
    await host.start()
    if settings.auth == "none":
        _LOG.warning(
            "EVALMESH_AUTH=none: whoever reaches %s may use %s and its keys; EVALMESH_AUTH_TOKEN_FILE ends that",
            settings.address,
            settings.room,
        )
    print(f"{services[0].name} listening on port {host.port}", flush=True)  # noqa: T201  (tells a parent process)
    await stop.wait()
    _LOG.info("draining")
    await host.stop()


def run_service(main: Callable[[], Coroutine[Any, Any, None]], settings: type[RoomSettings]) -> None:
    """The whole of a service's `__main__`: logs, event loop, and a clear last word.

    Exits with 2 for settings that cannot be used, 5 when bus or store cannot be reached, 1 for other errors.
    """
    try:
        configure_logging(settings.room, settings().log_level)
        entrance_of(settings())  # refuses before anything is opened
        if settings().end_with_stdin:
            os.umask(0o077)  # what the child of a platform on one machine writes is its user's alone
        allow_all_descriptors()
        keep_what_is_loaded()
        with telemetry_sent(alone=True), asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    except ValidationError as error:
        print(f"{settings.room}: {explain(error, settings.room)}", file=sys.stderr)  # noqa: T201  (likewise)
        sys.exit(2)
    except EvalmeshError as error:
        print(f"{settings.room}: {error.message}", file=sys.stderr)  # noqa: T201  (the last word before exit)
        sys.exit({Unavailable: 5, InvalidInput: 2}.get(type(error), 1))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Uvloop where there is one; it halves the cost of every message."""
    try:
        import uvloop  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
