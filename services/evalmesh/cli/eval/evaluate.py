"""One evaluation from config to outputs: what `eval`, `score`, `runs resume` and `run_task` share."""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from evalmesh.benchmarks import registry
from evalmesh.cli import exits
from evalmesh.cli.__main__ import exit_code
from evalmesh.cli.eval.completions import as_json_lines
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.live import RunProgress
from evalmesh.cli.eval.outputs import lost_count, write_outputs
from evalmesh.cli.eval.spec import DEMO_DATASETS, declared, literal_keys, repeating, sets_of, to_run_spec
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.log_mark import LogMark
from evalmesh.cli.platform.session import Place, connect
from evalmesh.cli.platform.waits import RECONNECT_S, say_lost, told_waits, when_ready
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.run import Run, RunSpec, RunState
from evalmesh.results.recorded import RecordedCompletions
from evalmesh.sdk import AsyncClient
from evalmesh.wire.runs.checks import check_spec

DEMO_PORT = 8809
"""Tried first, so that the completions of one demo can be reused by the next."""
_UNREACHABLE = frozenset({"auth", "connect"})
_NO_DIGEST_YET = "0" * 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an evaluation ended."""

    run: Run
    folder: Path
    report: dict[str, Any] | None
    """`None` when the run ended before there was one."""

    def exit_code(self, *, ignore_errors: bool) -> int:
        """What the process should exit with."""
        if self.run.state is RunState.CANCELLED:
            return exits.CANCELLED
        if self.run.state is RunState.FAILED or self.report is None:
            return exits.UNAVAILABLE if exit_code(self.run.error_reason) == exits.UNAVAILABLE else exits.FAILED
        scored, lost = lost_count(self.report)
        if lost and not scored:
            kinds = {kind for benchmark in self.report["benchmarks"] for kind in benchmark["error_classes"]}
            return exits.UNAVAILABLE if kinds and kinds <= _UNREACHABLE else exits.FAILED
        return exits.PARTIAL if lost and not ignore_errors else exits.OK


def place_of(config: TaskConfig) -> Place:
    """Where the config wants the platform, and the keys that one of its own is handed."""
    return Place.of(config, connections=declared(config), keys=literal_keys(config))


@asynccontextmanager
async def simulated(config: TaskConfig) -> AsyncIterator[TaskConfig]:
    """With `demo`, the config with the address of a simulated model that lives as long as the block."""
    if not config.demo:
        yield config
        return
    if config.api_url or config.server:
        field = "api_url" if config.api_url else "server"
        raise InvalidInput(
            f"demo: the simulated model runs in this process and goes with no {field}; leave out one of them.",
            {"field": "demo"},
        )
    datasets = config.datasets or list(DEMO_DATASETS)
    sets = sets_of(config)
    async with _serving(
        DEMO_PORT,
        or_any_port=True,
        benchmarks=tuple(one.name for one in sets),
        dataset_args={
            one.name: {**config.dataset_args.get(one.name, {}), "benchmark": one.benchmark}
            | ({"local_path": one.local_path} if one.local_path else {})
            for one in sets
        },
        dataset_dir=config.dataset_dir or "",
    ) as url:
        yield config.model_copy(update={"api_url": url, "datasets": datasets})


@asynccontextmanager
async def simulated_again(run: Run) -> AsyncIterator[None]:
    """The simulated model of an earlier demo at its old address, so that the run can be resumed."""
    if run.spec.labels.get("simulated") != "true":
        yield
        return
    args = {
        one.name: {"benchmark": one.kind, "local_path": one.local_path, **dataclasses.asdict(one.form)}
        for one in run.spec.benchmarks
    }
    async with _serving(
        urlsplit(run.spec.model.url).port or DEMO_PORT,
        or_any_port=False,
        benchmarks=tuple(one.name for one in run.spec.benchmarks),
        dataset_args=args,
        dataset_dir=run.spec.dataset_dir,
    ):
        yield


@asynccontextmanager
async def _serving(port: int, *, or_any_port: bool, **knows: Any) -> AsyncIterator[str]:
    """`knows`: fields of `SimulatorSettings`."""
    # Whoever evaluates a real model does without what takes a twentieth of a short command to load.
    from evalmesh.simulator.server import Simulator  # noqa: PLC0415
    from evalmesh.simulator.settings import SimulatorSettings  # noqa: PLC0415

    settings = SimulatorSettings(**knows)
    simulator = Simulator(settings)
    try:
        url = await simulator.start(port=port)
    except OSError as error:
        if not or_any_port:
            raise InvalidInput(
                f"The simulated model of this run was at port {port}, which is taken now; free it to resume the run."
            ) from error
        simulator = Simulator(settings)
        url = await simulator.start(port=0)
    try:
        yield url
    finally:
        await simulator.stop()


def resolve(config: TaskConfig) -> tuple[TaskConfig, RunSpec]:
    """The config with its run named by id, and the checked spec. Raises before anything is started."""
    if config.use_cache:
        config = config.model_copy(update={"use_cache": RUNS.id_of(config.use_cache)})
    spec = to_run_spec(config)
    if config.completions:
        file = _file(config.completions)
        _check_there(file, config.completions)
        with as_json_lines(file) as lines, lines.open("rb") as opened:
            RecordedCompletions(opened)  # raises for a row that cannot be used
        spec = replace(spec, completions_digest=_NO_DIGEST_YET)
    check_spec(spec)
    if not config.server:
        for one in spec.benchmarks:
            registry.get(one.kind)  # raises: a server alone may know others
    return config, spec


def say_notes(console: Console, notes: Iterable[str]) -> None:
    """What the platform noticed before it accepted a run."""
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


async def validate(config: TaskConfig) -> RunSpec:
    """The spec, checked by the platform too; nothing is run. Raises what is wrong with it."""
    async with simulated(config) as task:
        ready, spec = resolve(task)
        async with connect(place_of(ready)) as client:
            spec = await _with_completions(client, ready, spec)
            await client.create_run(spec, validate_only=True)
    return spec


async def evaluate(config: TaskConfig, console: Console, *, live: bool) -> Outcome:
    """Runs to the end and writes the outputs. Raises domain errors; when cancelled, the run can be resumed."""
    async with AsyncExitStack() as stack:
        stack.enter_context(told_in_keys([one.name for one in sets_of(config)]))
        ready, spec = resolve(await stack.enter_async_context(simulated(config)))
        place = place_of(ready)
        mark = LogMark(place.settings().state_dir / "logs")
        client = await stack.enter_async_context(connect(place))
        spec = await _with_completions(client, ready, spec)
        run = await when_ready(lambda: client.create_run(spec), ready.ready_timeout, console)
        say_notes(console, run.notes)
        folder = RUNS.folder_of(run, place.work_dir, no_timestamp=ready.no_timestamp)
        RUNS.write_config(repeating(ready, run.spec), run, folder)
        return await finish(client, run, folder, Watcher(console, live, mark, place))


def _check_there(file: Path, given: str) -> None:
    try:
        state = "is no file"
        if file.is_file():
            with file.open("rb") as opened:
                state = "" if opened.read(1) else "is empty"
    except OSError as error:
        state = f"cannot be read: {(error.strerror or str(error)).lower()}"
    if state:
        raise InvalidInput(
            f"completions: {given!r} {state}; give JSON Lines with one completion a row.", {"field": "completions"}
        )


def _file(path: str) -> Path:
    return Path(path).expanduser()


async def _with_completions(client: AsyncClient, config: TaskConfig, spec: RunSpec) -> RunSpec:
    if not config.completions:
        return spec
    with as_json_lines(_file(config.completions)) as lines:
        imported = await client.import_completions(lines)
    return replace(spec, completions_digest=imported.digest)


@dataclass(frozen=True, slots=True)
class Watcher:
    """How a run is watched, and where its logs are."""

    console: Console
    live: bool
    mark: LogMark
    place: Place


async def finish(client: AsyncClient, run: Run, folder: Path, watcher: Watcher) -> Outcome:
    """Watches a run to its end and writes its outputs."""
    place = watcher.place
    logs = None if place.server else place.settings().state_dir / "logs"
    lost = say_lost(watcher.console, client.address)
    try:
        with RunProgress(watcher.console, live=watcher.live) as progress:
            async with told_waits(logs, run.id, watcher.console):
                async for update in client.watch_run(run, reconnect_s=RECONNECT_S, on_lost=lost):
                    run = update
                    progress.update(run)
    except asyncio.CancelledError:
        watcher.console.print(_left_behind(run, folder, place), markup=False, highlight=False)
        raise
    finally:
        if not place.server:
            watcher.mark.copy(run.id, folder)
    try:
        report = await write_outputs(client, run, folder)
    except NotFound:
        if run.state is RunState.SUCCEEDED:
            raise
        report = None
    return Outcome(run, folder, report)


def _left_behind(run: Run, folder: Path, place: Place) -> str:
    if place.server:
        return (
            f"{run.id} goes on at {place.server}.\n"
            f"  follow it:  evalmesh runs watch {run.id} --server {place.server}\n"
            f"  end it:     evalmesh runs cancel {run.id} --server {place.server}"
        )
    work_dir = "" if os.path.normpath(place.work_dir) == "outputs" else f" --work-dir {quote(str(place.work_dir))}"
    return (
        f"{run.id} stopped; nothing that is finished is lost ({folder}).\n"
        f"  go on:  evalmesh runs resume {run.id}{work_dir}"
    )
