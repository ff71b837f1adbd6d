"""One evaluation from config to outputs: what `eval`, `score`, `runs resume` and `run_task` share."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from evalmesh.benchmarks import registry
from evalmesh.cli.datasets.bringing import hub_folders
from evalmesh.cli.eval.completions import as_json_lines
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.live import RunProgress
from evalmesh.cli.eval.outcome import Outcome
from evalmesh.cli.eval.outputs import write_config_of, write_outputs
from evalmesh.cli.eval.reuse import Earlier, differences, find_earlier, report_differences, with_earlier
from evalmesh.cli.eval.sets import DEMO_DATASETS, DEMO_MODEL, benchmark_spec, path_for, sets_of
from evalmesh.cli.eval.spec import declared, literal_keys, repeating, to_run_spec
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.log_mark import LogMark
from evalmesh.cli.platform.session import Place, connect
from evalmesh.cli.platform.waits import RECONNECT_S, say_lost, told_waits, when_ready
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.run import ModelSpec, Run, RunSpec, RunState
from evalmesh.results.recorded import RecordedCompletions
from evalmesh.runtime.telemetry import span, trace_id
from evalmesh.sdk import AsyncClient
from evalmesh.wire.runs.checks import check_spec

DEMO_PORT = 8809
"""Tried first, so that the completions of one demo can be reused by the next."""
_NO_DIGEST_YET = "0" * 64


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
    specs = tuple(benchmark_spec(one, config) for one in sets)
    where = path_for(config.dataset_dir, config)
    folders = await hub_folders(
        RunSpec(ModelSpec(DEMO_MODEL), specs, dataset_dir=where, dataset_hub=config.dataset_hub)
    )
    async with _serving(
        DEMO_PORT,
        or_any_port=True,
        benchmarks=tuple(one.name for one in sets),
        dataset_args={
            one.name: {**config.dataset_args.get(one.name, {}), "benchmark": one.benchmark}
            | ({"local_path": path} if (path := one.local_path or folders.get(one.name)) else {})
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
    folders = await hub_folders(run.spec)
    args = {
        one.name: {
            "benchmark": one.kind,
            "local_path": one.local_path or folders.get(one.name),
            **dataclasses.asdict(one.form),
        }
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
    work_dir = Path(config.work_dir).expanduser()
    if config.use_cache:
        config = config.model_copy(update={"use_cache": _earlier_id(config, work_dir)})
    RUNS.check_free(work_dir, no_timestamp=config.no_timestamp, overwrite=config.overwrite)
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


def say_trace(console: Console, *, debug: bool) -> None:
    """Where spans are sent: what the run's are found by."""
    if debug and (known := trace_id()):
        console.print(Text(f"trace {known}"), soft_wrap=True)


def _earlier_id(config: TaskConfig, work_dir: Path) -> str:
    """The id of the run whose answers are copied; a server knows more runs than have left something here."""
    given = config.use_cache or ""
    try:
        return RUNS.path_id(given, work_dir) or given if config.server else RUNS.id_of(given, work_dir)
    except (NotFound, InvalidInput) as error:
        raise type(error)(f"use_cache: {error.message}", {"field": "use_cache"}) from None


async def evaluate(config: TaskConfig, console: Console, *, live: bool) -> Outcome:
    """Runs to the end and writes the outputs. Raises domain errors; when cancelled, the run can be resumed."""
    async with AsyncExitStack() as stack:
        stack.enter_context(span("evalmesh eval"))
        stack.enter_context(told_in_keys([one.name for one in sets_of(config)]))
        asked = await stack.enter_async_context(simulated(config))
        ready, spec = resolve(asked)
        place = place_of(ready)
        mark = LogMark(place.settings().state_dir / "logs")
        client = await stack.enter_async_context(connect(place))
        spec = await with_completions(client, ready, spec)
        earlier = await earlier_of(client, asked, ready)
        if earlier is not None:
            _say_differences(console, earlier, spec)
            spec = await with_earlier(client, spec, earlier)
        run = await when_ready(partial(client.create_run, spec), ready.ready_timeout, console)
        say_notes(console, run.notes)
        say_trace(console, debug=ready.debug)
        folder = RUNS.folder_of(run, place.work_dir, no_timestamp=ready.no_timestamp)
        if ready.no_timestamp:
            RUNS.clear(folder, place.work_dir)
        RUNS.write_config(repeating(ready, run.spec), run, folder)
        outcome = await finish(client, run, folder, Watcher(console, live, mark, place))
        if earlier is not None and outcome.report is not None:
            await _say_nothing_reused(client, console, earlier, outcome.report)
        return outcome


async def earlier_of(client: AsyncClient, asked: TaskConfig, ready: TaskConfig) -> Earlier | None:
    """The run whose answers are to be copied: as it was named, and by its id."""
    return await find_earlier(client, ready.use_cache or "", _folder_of(asked)) if asked.use_cache else None


def _folder_of(config: TaskConfig) -> Path | None:
    """Where the outputs of the run lie that `use_cache` names."""
    given, work_dir = config.use_cache or "", Path(config.work_dir).expanduser()
    path = Path(given).expanduser()
    if path.is_dir():
        return path
    return RUNS.find_folder(_earlier_id(config, work_dir), work_dir)


def _say_differences(console: Console, earlier: Earlier, spec: RunSpec) -> None:
    """Before anything is asked, which costs time and perhaps money."""
    found = differences(earlier.spec, spec) if earlier.spec is not None else []
    if found:
        console.print(
            Text(f"note: nothing can be copied from {earlier.run}, all is asked: {'; '.join(found)}", style="yellow"),
            soft_wrap=True,
        )


async def _say_nothing_reused(
    client: AsyncClient, console: Console, earlier: Earlier, report: Mapping[str, Any]
) -> None:
    if any(one["n_reused"] for one in report["benchmarks"]):
        return
    before = None
    with suppress(NotFound, InvalidInput):
        if earlier.spec is not None:
            before = await client.report(earlier.run)
        elif earlier.folder is not None:
            before = RUNS.read_report(earlier.folder / RUNS.report_file)
    why = report_differences(before, report) if before is not None else []
    text = "; ".join(why) or "it answered none of these questions, or with errors only"
    console.print(Text(f"warning: 0 answers were copied from {earlier.run}: {text}", style="yellow"), soft_wrap=True)


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


async def with_completions(client: AsyncClient, config: TaskConfig, spec: RunSpec) -> RunSpec:
    """The spec with the digest of the config's completions, which are handed to the platform."""
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
    mark: LogMark | None
    """`None`: the run is another command's."""
    place: Place
    writes: bool = True
    """Whether outputs are written; another command may be doing that."""


async def finish(client: AsyncClient, run: Run, folder: Path, watcher: Watcher) -> Outcome:
    """Watches a run to its end and writes its outputs."""
    place = watcher.place
    logs = None if place.server else place.settings().state_dir / "logs"
    lost = say_lost(watcher.console, client.address)
    try:
        with RunProgress(watcher.console, live=watcher.live, start=run) as progress:
            async with told_waits(logs, run.id, watcher.console):
                async for update in client.watch_run(run, reconnect_s=RECONNECT_S, on_lost=lost):
                    run = update
                    progress.update(run)
    except asyncio.CancelledError:
        watcher.console.print(_left_behind(run, folder, watcher), markup=False, highlight=False)
        raise
    finally:
        if not place.server and watcher.mark is not None:
            watcher.mark.copy(run.id, folder)
    try:
        if watcher.writes:
            report = await write_outputs(client, run, folder)
            write_config_of(run, folder)
        else:
            report = await client.report(run)
    except NotFound:
        if run.state is RunState.SUCCEEDED:
            raise
        report = None
    return Outcome(run, folder, report)


def _left_behind(run: Run, folder: Path, watcher: Watcher) -> str:
    place = watcher.place
    if place.server or watcher.mark is None:
        return (
            f"{run.id} goes on{f' at {place.server}' if place.server else ''}.\n"
            f"  follow it:  evalmesh runs watch {run.id}{place.flags}\n"
            f"  end it:     evalmesh runs cancel {run.id}{place.flags}"
        )
    return (
        f"{run.id} stopped; nothing that is finished is lost ({folder}).\n"
        f"  go on:  evalmesh runs resume {run.id}{place.flags}"
    )
