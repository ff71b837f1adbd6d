"""The engines of a process: one of each kind and model, shared by all who ask it, and kept for a while after them."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from evalmesh.adapters.engines.crew import Crew
from evalmesh.adapters.engines.endpoint import EngineEndpoint
from evalmesh.adapters.engines.engine import EngineOptions
from evalmesh.adapters.engines.model_files import FIELD, local_model
from evalmesh.adapters.engines.options import ENGINES, PATHS, EngineArgs, EngineKind, code_in, read_args, require
from evalmesh.adapters.engines.options import FIELD as ARGS
from evalmesh.adapters.engines.placing import environments
from evalmesh.adapters.engines.protocol import Open
from evalmesh.adapters.engines.replica import Launch, Replica
from evalmesh.adapters.engines.weights_here import WeightsHere
from evalmesh.adapters.hubs.hubs import HubRules
from evalmesh.adapters.roots import Roots
from evalmesh.domain.digest import sha256_hex
from evalmesh.domain.errors import PermissionDenied
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.wire.runs.media_files import MediaFiles

_LINGER_S = 60.0
_START_S = 6 * 3600.0
"""Weights may have to be fetched; whoever waits sees that it goes on, and can leave."""
_MOST_LOG_BYTES = 16 << 20
_OF_THE_COPIES = ("data_parallel", "devices")


@dataclass(frozen=True, slots=True)
class HouseRules:
    """What whoever runs this process says of its engines."""

    roots: Roots | None = None
    """Folders that models may be read from; `None`: all."""
    remote_code: bool = True
    """Whether a spec may ask for code that comes with a model."""
    logs: Path | None = None
    """Folder for what the engines write; `None`: into our log."""
    hubs: HubRules | None = None
    """Of the hubs that models come from; `None`: any, with the environment's own tokens."""
    linger_s: float = _LINGER_S
    """So long an engine that nobody uses is kept."""


@dataclass(slots=True, eq=False)
class _Tenancy:
    crew: Crew
    users: int = 0
    leaving: asyncio.TimerHandle | None = None


class House:
    """Opens endpoints of our own engines. Only for the loop it is used in."""

    def __init__(
        self,
        rules: HouseRules | None = None,
        media: MediaFiles | None = None,
        engines: Mapping[str, EngineKind] = ENGINES,
    ) -> None:
        self._rules = rules or HouseRules()
        self._media = media
        self._engines = engines
        self._tenancies: dict[str, _Tenancy] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, pool: Pool) -> EngineEndpoint:
        """The endpoint of a pool; nothing is started yet.

        Raises `InvalidInput` for an option or a folder that cannot be used, `NotFound` for one that is not there,
        `PermissionDenied` for what this house does not allow, `Unimplemented` where the engine is not installed.
        """
        model = pool.model
        kind = self._engines[model.engine]
        args = read_args(model.engine, kind, model.args)
        folder = local_model(model.name)
        self._check_allowed(args, folder)
        require(kind)
        weights = WeightsHere(model.name, args, folder, self._rules.hubs)
        options = EngineOptions(
            model=weights.model,
            kind="completion" if model.kind == "completion" else "chat",
            concurrency=model.concurrency,
            args={name: value for name, value in msgspec.to_builtins(args).items() if name not in _OF_THE_COPIES},
        )
        where = environments(args, from_hub=bool(args.tokenizer) and not Path(args.tokenizer).expanduser().is_dir())
        key = sha256_hex(msgspec.json.encode((model.engine, options, args, model.try_timeout_s)))
        tenancy = self._tenancies.get(key)
        if tenancy is None:
            self._make_room()

            def replicas(noted: Callable[[str], None]) -> Sequence[Replica]:
                opening, log = Open(kind.implementation, options), self._log_of(model)
                words = [sys.executable, "-P", "-m", "evalmesh.adapters.engines.child"]
                launches = [
                    Launch(words, one, log, opening, lambda: weights.model, model.try_timeout_s, _START_S)
                    for one in where
                ]
                return [Replica(launch, noted) for launch in launches]

            async def before(tell: Callable[[str], None]) -> None:
                await weights.bring(tell)
                await self._room_made()

            tenancy = self._tenancies[key] = _Tenancy(Crew(model.name, replicas, model.concurrency, before))
        tenancy.users += 1
        if tenancy.leaving is not None:
            tenancy.leaving.cancel()
            tenancy.leaving = None
        tenancy.crew.outage_s = max(tenancy.crew.outage_s, model.outage_timeout_s)
        return EngineEndpoint(model, tenancy.crew, self._media, lambda: self._left(key, tenancy))

    def _check_allowed(self, args: EngineArgs, folder: Path | None) -> None:
        if self._rules.roots is not None:
            named = {f"{ARGS}.{name}": str(getattr(args, name, "")) for name in PATHS}
            for field, path in {FIELD: str(folder or ""), **named}.items():
                if path and _is_there(path):
                    self._rules.roots.check(Path(path).expanduser(), field, path)
        if not self._rules.remote_code and (name := code_in(args)):
            raise PermissionDenied(
                f"{ARGS}.{name}: this model runner runs no code that a spec brings along; its operator can allow "
                "it (EVALMESH_MODEL_RUNNER_REMOTE_CODE).",
                {"field": f"{ARGS}.{name}"},
            )

    def _log_of(self, model: ModelSpec) -> Path | None:
        logs = self._rules.logs
        if logs is None:
            return None
        logs.mkdir(parents=True, exist_ok=True)
        label = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in model.label)[:64]
        log = logs / f"engine-{label or 'model'}.log"
        if log.exists() and log.stat().st_size > _MOST_LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
        return log

    def _left(self, key: str, tenancy: _Tenancy) -> None:
        tenancy.users -= 1
        if not tenancy.users:
            loop = asyncio.get_running_loop()
            tenancy.leaving = loop.call_later(self._rules.linger_s, self._end, key)

    def _make_room(self) -> None:
        """Engines that nobody uses give their memory to one that is wanted."""
        for key in [key for key, one in self._tenancies.items() if not one.users]:
            self._end(key)

    def _end(self, key: str) -> None:
        tenancy = self._tenancies.pop(key)
        if tenancy.leaving is not None:
            tenancy.leaving.cancel()
        task = asyncio.create_task(tenancy.crew.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _room_made(self) -> None:
        await asyncio.gather(*self._closing)

    async def close(self) -> None:
        """Ends all engines."""
        for key in list(self._tenancies):
            self._end(key)
        await self._room_made()


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError):  # a template, say
        return False
