"""Each service in a process of its own: the same `python -m evalmesh.<service>` that a pod runs."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalmesh.adapters.model_servers import to_json
from evalmesh.domain.errors import InvalidInput, Unavailable
from evalmesh.local.settings import LocalSettings

_LOG = logging.getLogger(__name__)
_START_S = 30.0
_MOST_KEY_BYTES = 32 << 10
"""Less than a pipe holds, so that writing never waits for the child to read."""
_WORKERS = ("dataset_loader", "scorer", "load_generator", "report_aggregator")


@dataclass(slots=True)
class ServiceProcess:
    """One child, which is started again when it dies."""

    name: str
    room: str
    environment: dict[str, str]
    log: Path
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Handed over by a pipe: what is in an environment, each process started from there inherits."""
    process: asyncio.subprocess.Process | None = None
    port: int = 0

    async def start(self) -> None:
        """Returns when the child listens. Raises `Unavailable` with the end of its log."""
        with self.log.open("ab") as log, _handed_over(self.keys) as keys:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"evalmesh.{self.room}",
                env={**self.environment, "EVALMESH_KEYS_FD": str(keys)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=(keys,) if keys >= 0 else (),
            )
        assert self.process.stdout is not None  # noqa: S101  (asked for a pipe)
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), _START_S)
            self.port = int(line.rsplit(b" ", 1)[1])
        except (TimeoutError, IndexError, ValueError) as error:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise Unavailable(f"{self.name} did not start; the end of its log {self.log}:\n{tail}") from error
        # A child that is started again must be found where the others look for it.
        self.environment["EVALMESH_ADDRESS"] = f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def _handed_over(keys: Mapping[str, str]) -> Iterator[int]:
    """The end to read the keys from, which are in the pipe already; -1 where there are none."""
    if not keys:
        yield -1
        return
    data = json.dumps(dict(keys)).encode()
    if len(data) > _MOST_KEY_BYTES:
        raise InvalidInput(
            f"The keys are {len(data)} bytes long, which no endpoint takes; check what was given as key."
        )
    here, there = os.pipe()
    try:
        os.write(there, data)
        os.close(there)
        yield here
    finally:
        os.close(here)


class ServiceProcesses:
    """All services as child processes of this one."""

    def __init__(self, settings: LocalSettings, bus_url: str) -> None:
        self._settings = settings
        self._bus_url = bus_url
        self._supervisors: list[asyncio.Task[None]] = []
        self.children: dict[str, ServiceProcess] = {}

    def _child(self, name: str, room: str, **more: str) -> ServiceProcess:
        settings = self._settings
        environment = {
            **self._inherited(asks=self._asks(room)),
            "EVALMESH_ADDRESS": "127.0.0.1:0",
            "EVALMESH_AUTH": "token",
            "EVALMESH_AUTH_TOKEN_FILE": str(settings.token_file),
            "EVALMESH_BUS_URL": self._bus_url,
            "EVALMESH_OBJECTS_URL": settings.store_url,
            "EVALMESH_LOG_LEVEL": settings.log_level,
            "EVALMESH_ACK_WAIT_S": str(settings.ack_wait_s),
            "EVALMESH_DRAIN_S": str(settings.drain_s),
            "EVALMESH_END_WITH_STDIN": "true",
            # Whoever has the token is the user who started this, and may read what that user may.
            "EVALMESH_DATASET_LOADER_ROOTS": "/",
            "EVALMESH_LOAD_GENERATOR_ROOTS": "/",
            "EVALMESH_LOAD_GENERATOR_SEATS": str(settings.generators),
            "EVALMESH_LOAD_GENERATOR_SCRATCH_DIR": str(settings.state_dir / "scratch"),
            **more,
        }
        logs = settings.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        keys = settings.keys if self._asks(room) else {}
        child = ServiceProcess(name, room, environment, logs / f"{name}.log", keys)
        self.children[name] = child
        return child

    def _asks(self, room: str) -> bool:
        """Whether the service asks models, so that it needs their keys."""
        return room == "model_runner" or (room == "load_generator" and self._settings.generators > 0)

    def _inherited(self, *, asks: bool) -> dict[str, str]:
        """This process's environment; keys only where models are asked."""
        connections = self._settings.connections
        if asks:
            declared = {"EVALMESH_CONNECTIONS": to_json(connections), "EVALMESH_EGRESS": "open"}
            return {**os.environ, "EVALMESH_CONNECTIONS_FILE": "", **declared}
        keys = {ref.removeprefix("env:") for one in connections for ref in one.references}
        kept_back = {*keys, "EVALMESH_CONNECTIONS", "EVALMESH_CONNECTIONS_FILE"}
        return {name: value for name, value in os.environ.items() if name not in kept_back}

    async def start(self) -> str:
        """Starts all; returns the gateway's address."""
        hosted = self._settings.hosted
        first = [self._child(room, room) for room in _WORKERS if hosted is None or room in hosted]
        if hosted is None or "model_runner" in hosted:
            for number in range(max(1, self._settings.runners)):
                name = "model_runner" if number == 0 else f"model_runner-{number}"
                first.append(self._child(name, "model_runner"))
        await asyncio.gather(*(child.start() for child in first))
        where = {f"EVALMESH_GATEWAY_{c.name.upper()}_ADDRESS": f"127.0.0.1:{c.port}" for c in first if c.name == c.room}
        gateway = self._child("gateway", "gateway", **where, EVALMESH_GATEWAY_ADDRESS=self._settings.address)
        await gateway.start()
        gateway.environment["EVALMESH_GATEWAY_ADDRESS"] = f"{self._settings.address.rpartition(':')[0]}:{gateway.port}"
        self._supervisors = [asyncio.create_task(self._supervise(child)) for child in self.children.values()]
        return f"{self._settings.address.rpartition(':')[0]}:{gateway.port}"

    async def _supervise(self, child: ServiceProcess) -> None:
        while child.process is not None:
            code = await child.process.wait()
            _LOG.warning("%s ended with %s; starting it again", child.name, code)
            try:
                await child.start()
            except Unavailable as error:
                _LOG.error("%s", error.message)
                await asyncio.sleep(2.0)

    def forget(self) -> None:
        """Stops starting dead children again."""
        for task in self._supervisors:
            task.cancel()

    async def stop(self) -> None:
        """Lets every child drain, then ends what is left."""
        self.forget()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        running = [c.process for c in self.children.values() if c.process is not None and c.process.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        waits = [asyncio.create_task(process.wait()) for process in running]
        if waits:
            _, late = await asyncio.wait(waits, timeout=self._settings.drain_s + 3.0)
            for process in running:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*late)
