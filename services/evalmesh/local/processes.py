"""Each service in a process of its own: the same `python -m evalmesh.<service>` that a pod runs."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from evalmesh.adapters.engines.placing import shares
from evalmesh.adapters.hubs.settings import hub_settings
from evalmesh.adapters.model_servers import to_json
from evalmesh.domain.connection import Connection, origin_of
from evalmesh.domain.errors import InvalidInput, Unavailable
from evalmesh.local.settings import LocalSettings, peer_address
from evalmesh.process.child import Command, last_lines
from evalmesh.process.environment import everything, without_keys
from evalmesh.process.piped import KeptChild, PipedChild
from evalmesh.runtime.telemetry.settings import service_name

_START_S = 30.0
_DRAIN_MORE_S = 3.0
_MOST_KEY_BYTES = 32 << 10
"""Less than a pipe holds, so that writing never waits for the child to read."""
_PRIVATE = 0o077
_WORKERS = ("dataset_loader", "scorer", "load_generator", "report_aggregator")
_OWN_KEYS = ("EVALMESH_S3_*", "AWS_*", "EVALMESH_*TOKEN*", "OTEL_*")
"""Variables that are named like keys and are the services' own: those of store, platform and telemetry."""
_HUB_KEYS = ("HF_TOKEN*", "HF_HUB_*", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")
"""Those that the data set loader shows hubs."""


class ServiceProcess:
    """One child, which is started again when it dies."""

    def __init__(self, room: str, name: str, settings: LocalSettings, more: dict[str, str]) -> None:
        self.room = room
        self.name = name
        asks = room == "model_runner" or (room == "load_generator" and settings.generators > 0)
        hubs = _connections_to_hubs(settings) if room == "dataset_loader" else None
        inherited = _with_all_keys(settings) if asks else _inherited(settings, hubs)
        self.environment = {**inherited, **more}
        self.port = 0
        self.kept = KeptChild(name, self._start)
        own = settings.keys.keys() if asks else settings.keys.keys() & _names(hubs)
        self._keys = {name: settings.keys[name] for name in own}
        logs = settings.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"

    @property
    def process(self) -> PipedChild | None:
        """The one that runs, or has run last."""
        return self.kept.child

    async def _start(self) -> PipedChild:
        """Returns when the child listens. Raises `Unavailable` with the end of its log."""
        with _handed_over(self._keys) as keys:
            command = Command(
                [sys.executable, "-m", f"evalmesh.{self.room}"],
                {**self.environment, "EVALMESH_KEYS_FD": str(keys)},
                self._log,
                pass_fds=(keys,) if keys >= 0 else (),
                umask=_PRIVATE,
            )
            child = await PipedChild.start(self.name, command)
        try:
            self.port = int((await child.ready_line(_START_S)).rpartition(" ")[2])
        except (Unavailable, ValueError) as error:
            await child.close(0)
            why = error.message if isinstance(error, Unavailable) else f"{self.name} did not name its port."
            tail = "\n".join(last_lines(self._log, 20))
            raise Unavailable(f"{why} The end of its log {self._log}:\n{tail}") from error
        # A child that is started again must be found where the others look for it.
        variable = "EVALMESH_GATEWAY_ADDRESS" if self.room == "gateway" else "EVALMESH_ADDRESS"
        host = self.environment[variable].rpartition(":")[0]
        self.environment[variable] = f"{host}:{self.port}"
        return child


def _with_all_keys(settings: LocalSettings) -> dict[str, str]:
    """This process's environment, for those who ask models."""
    declared = {"EVALMESH_CONNECTIONS": to_json(settings.connections), "EVALMESH_EGRESS": "open"}
    return {**everything(), "EVALMESH_CONNECTIONS_FILE": "", **declared}


def _inherited(settings: LocalSettings, hubs: Sequence[Connection] | None) -> dict[str, str]:
    """This process's environment without keys, but for those of hubs where these are asked."""
    kept_back = {*_names(settings.connections), "EVALMESH_CONNECTIONS", "EVALMESH_CONNECTIONS_FILE"} - _names(hubs)
    keep = _OWN_KEYS if hubs is None else (*_OWN_KEYS, *_HUB_KEYS, *_names(hubs))
    found = {name: value for name, value in without_keys(keep).items() if name not in kept_back}
    return found if hubs is None else {**found, "EVALMESH_CONNECTIONS": to_json(hubs), "EVALMESH_EGRESS": "open"}


def _connections_to_hubs(settings: LocalSettings) -> list[Connection]:
    endpoints = [origin_of(access.endpoint) for access in hub_settings().hubs.values()]
    return [one for one in settings.connections if any(map(one.covers, endpoints))]


def _names(connections: Sequence[Connection] | None) -> set[str]:
    """Variables that connections take keys from."""
    return {ref.removeprefix("env:") for one in connections or () for ref in one.references}


@contextlib.contextmanager
def _handed_over(keys: Mapping[str, str]) -> Iterator[int]:
    """The end to read the keys from, which are in the pipe already; -1 where there are none.

    What is in an environment, each process started from there inherits.
    """
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
        self.children: dict[str, ServiceProcess] = {}

    def _child(self, name: str, room: str, **more: str) -> ServiceProcess:
        settings = self._settings
        told = {
            "EVALMESH_ADDRESS": "127.0.0.1:0",
            "EVALMESH_AUTH": "token",
            "EVALMESH_AUTH_TOKEN_FILE": str(settings.token_file),
            "EVALMESH_BUS_URL": self._bus_url,
            "EVALMESH_OBJECTS_URL": settings.store_url,
            "EVALMESH_LOG_LEVEL": settings.log_level,
            "EVALMESH_METRICS_ADDRESS": self._metrics_address(room),
            "OTEL_SERVICE_NAME": service_name(room, alone=False),
            "EVALMESH_ACK_WAIT_S": str(settings.ack_wait_s),
            "EVALMESH_DRAIN_S": str(settings.drain_s),
            "EVALMESH_END_WITH_STDIN": "true",
            # Whoever has the token is the user who started this, and may read what that user may.
            "EVALMESH_DATASET_LOADER_ROOTS": "/",
            "EVALMESH_LOAD_GENERATOR_ROOTS": "/",
            "EVALMESH_MODEL_RUNNER_ROOTS": "/",
            "EVALMESH_MODEL_RUNNER_REMOTE_CODE": "true",
            "EVALMESH_MODEL_RUNNER_LOGS_DIR": str(settings.state_dir / "logs"),
            "EVALMESH_LOAD_GENERATOR_SEATS": str(settings.generators),
            "EVALMESH_LOAD_GENERATOR_SCRATCH_DIR": str(settings.scratch_dir),
            **{f"EVALMESH_{one}_HOST": settings.host for one in ("GATEWAY", "MODEL_RUNNER", "LOAD_GENERATOR")},
            "EVALMESH_LOAD_GENERATOR_HOSTS_DIR": str(settings.hosts_dir),
            **more,
        }
        child = self.children[name] = ServiceProcess(room, name, settings, told)
        return child

    def _metrics_address(self, room: str) -> str:
        """One port each: the gateway has the first, the others those that follow, in the order of their start."""
        host, _, port = self._settings.metrics_address.rpartition(":")
        if not port or port == "0":
            return self._settings.metrics_address
        return f"{host}:{int(port) + (0 if room == 'gateway' else len(self.children) + 1)}"

    async def start(self) -> str:
        """Starts all; returns the gateway's address."""
        hosted = self._settings.hosted
        first = [self._child(room, room) for room in _WORKERS if hosted is None or room in hosted]
        if hosted is None or "model_runner" in hosted:
            for number, devices in enumerate(shares(max(1, self._settings.runners))):
                name = "model_runner" if number == 0 else f"model_runner-{number}"
                first.append(self._child(name, "model_runner", **devices))
        starts = [asyncio.create_task(child.kept.start()) for child in first]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            # The others would come up after `stop` and stay.
            for one in starts:
                one.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise
        where = {f"EVALMESH_GATEWAY_{c.name.upper()}_ADDRESS": f"127.0.0.1:{c.port}" for c in first if c.name == c.room}
        gateway = self._child("gateway", "gateway", **where, EVALMESH_GATEWAY_ADDRESS=self._settings.address)
        await gateway.kept.start()
        return peer_address(self._settings.address, gateway.port)

    def forget(self) -> None:
        """Stops starting dead children again."""
        for child in self.children.values():
            child.kept.leave()

    async def stop(self) -> None:
        """Lets every child drain, then ends what is left."""
        patience_s = self._settings.drain_s + _DRAIN_MORE_S
        await asyncio.gather(*(child.kept.close(patience_s) for child in self.children.values()))
