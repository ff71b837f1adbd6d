"""One load test from config to outputs."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.exports import check_exports, export
from evalmesh.cli.perf.keys import told_in_keys
from evalmesh.cli.perf.live import LoadProgress
from evalmesh.cli.perf.outcome import PerfOutcome
from evalmesh.cli.perf.outputs import write_missing_outputs, write_outputs
from evalmesh.cli.perf.spec import all_notes, repeating, resolve, submit_spec
from evalmesh.cli.perf.target import LOCAL_APIS, check_api, declared, literal_keys
from evalmesh.cli.platform.log_mark import LogMark
from evalmesh.cli.platform.session import Place, check_writable, connect
from evalmesh.cli.platform.waits import RECONNECT_S, say_lost, told_waits
from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, NotFound
from evalmesh.domain.load_test import LoadTest, LoadTestSpec
from evalmesh.domain.state import State
from evalmesh.runtime.telemetry import span, trace_id

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # loaded while the processes of a platform start

_REPORT_WAIT_S = 60.0
"""After a cancel: how long the report of what was measured is waited for."""


LOAD_TEST_SERVICES = frozenset({"gateway", "load_generator", "report_aggregator"})
"""What a load test needs; runs that were left behind in the same work directory are not taken up by it."""


def place_of(config: PerfConfig) -> Place:
    """Where the config wants the platform. Raises `InvalidInput` for an API that one of this command's own lacks."""
    check_api(config)
    return Place.of(config, hosted=LOAD_TEST_SERVICES, connections=declared(config), keys=literal_keys(config))


@asynccontextmanager
async def with_endpoint(config: PerfConfig) -> AsyncIterator[PerfConfig]:
    """With a local API, the config with the address of a server that lives as long as the block."""
    if config.api not in LOCAL_APIS:
        yield config
        return
    if config.server:
        raise InvalidInput(
            f"api: {config.api!r} starts the model on this machine and goes with no server; leave out one of them.",
            {"field": "api"},
        )
    from evalmesh.cli.perf.local_server import serving  # noqa: PLC0415  # only these need it

    serving_model = serving(
        config.api,
        config.model or "",
        command=config.server_command,
        port=config.port if "port" in config.model_fields_set else None,
        attn_implementation=config.attn_implementation,
        log_file=place_of(config).settings().state_dir / "logs" / "local_server.log",
        ready_timeout_s=config.server_timeout,
    )
    async with serving_model as url:
        yield config.model_copy(update={"url": url})


async def validate(config: PerfConfig, console: Console) -> LoadTestSpec:
    """The spec, checked by the platform too; the endpoint is asked nothing. Raises what is wrong with it."""
    say_notes(console, all_notes(config))
    spec = resolve(config)
    await asyncio.to_thread(check_exports, config)
    if config.api in LOCAL_APIS:
        return spec  # its endpoint is not started for a look
    async with connect(place_of(config)) as client:
        spec = await submit_spec(client, config)
        with told_in_keys():
            accepted = await client.create_load_test(replace(spec, check_endpoint=False), validate_only=True)
    say_notes(console, accepted.notes)
    return spec


async def preview(config: PerfConfig, count: int, console: Console) -> Sequence[Any]:
    """The first bodies of a load test as they would be sent."""
    say_notes(console, all_notes(config))
    resolve(config)
    place = place_of(config)
    async with connect(place) as client:
        spec = await submit_spec(client, config)
        with told_in_keys():
            return await client.preview_load_test(spec, count)


async def run_load_test(config: PerfConfig, console: Console, *, live: bool) -> PerfOutcome:
    """Runs to the end and writes the outputs. When cancelled, ends the load test and reports what was measured.

    Raises domain errors, and `CancelledError` when there was nothing to report yet.
    """
    say_notes(console, all_notes(config))
    ended: list[PerfOutcome] = []
    try:
        ready = await _run(config, console, ended, live=live)
        return await asyncio.to_thread(export, ready, ended[0])
    except asyncio.CancelledError:
        if not ended:
            raise
        # While the platform was being stopped, or a sink was waited for: all outputs are written.
        return replace(ended[0], interrupted=True)


async def _run(config: PerfConfig, console: Console, ended: list[PerfOutcome], *, live: bool) -> PerfConfig:
    """Appends the outcome to `ended` as soon as there is one; returns the config with its endpoint."""
    work_dir = Path(config.work_dir).expanduser()  # noqa: ASYNC240  (looks at no disk)
    LOAD_TESTS.check_free(work_dir, no_timestamp=config.no_timestamp, overwrite=config.overwrite)
    async with AsyncExitStack() as stack:
        stack.enter_context(span("evalmesh perf"))
        resolve(config)
        await asyncio.to_thread(check_exports, config)
        ready = await stack.enter_async_context(with_endpoint(config))
        place = place_of(ready)
        logs = place.settings().state_dir / "logs"
        mark = LogMark(logs)
        client = await stack.enter_async_context(connect(place))
        if not place.server:
            await end_interrupted(client, console, place)
        else:
            check_writable(place.work_dir, place.work_dir)
        with told_in_keys():
            test = await client.create_load_test(await submit_spec(client, ready))
        say_notes(console, test.notes)
        if config.debug and (known := trace_id()):
            say_notes(console, [f"trace {known}"])
        folder = LOAD_TESTS.folder_of(test, place.work_dir, no_timestamp=ready.no_timestamp)
        if ready.no_timestamp:
            LOAD_TESTS.clear(folder, place.work_dir)
        LOAD_TESTS.write_config(repeating(ready, test.spec), test, folder)
        try:
            ended.append(await follow(client, test, folder, Watch(console, live, None if place.server else logs)))
        finally:
            if not place.server:
                with suppress(OSError):  # a copy, for which a full disk has no room
                    mark.copy(test.id, folder)
    return ready


def say_notes(console: Console, notes: Iterable[str]) -> None:
    """What is taken in another way than it was said, and what the platform noticed."""
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


async def end_interrupted(client: "AsyncClient", console: Console, place: Place) -> None:
    """Ends load tests of a platform that died in this work directory: their load was interrupted, so it was another.

    They would also go on beside the new one and disturb it.
    """
    async for one in client.list_load_tests(page_size=20):
        if one.state.terminal or place.goes_on(one):
            continue
        try:
            await client.cancel_load_test(one)
        except FailedPrecondition:
            continue  # it has ended in the meantime
        ended = await _wait_ended(client, one)
        folder = await write_missing_outputs(client, ended, place.work_dir)
        where = f"; what it measured is in {folder}" if folder is not None else ""
        console.print(Text(f"{one.id} was interrupted and is ended now{where}", style="yellow"), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Watch:
    """How a load test is watched."""

    console: Console
    live: bool
    logs: Path | None
    """Of the platform, where it is here: they tell what it waits for."""


async def follow(client: "AsyncClient", test: LoadTest, folder: Path, watch: Watch) -> PerfOutcome:
    """Watches a load test to its end and writes its outputs; a cancel of this task ends the load test."""
    interrupted = False
    try:
        with LoadProgress(watch.console, live=watch.live) as progress:
            async with told_waits(watch.logs, test.id, watch.console):
                lost = say_lost(watch.console, client.address)
                async for update, snapshot in client.watch_load_test(test, reconnect_s=RECONNECT_S, on_lost=lost):
                    test = update
                    progress.update(test, snapshot)
    except asyncio.CancelledError:
        interrupted = True
        watch.console.print(Text(f"{test.id}: ending it and waiting for the report of what was measured"))
        test = await _end(client, test)
    writing = asyncio.create_task(write_outputs(client, test, folder))
    try:
        await asyncio.wait([writing])
    except asyncio.CancelledError:
        interrupted = True  # what is measured is worth the moment its report takes
        await asyncio.wait([writing])
    perf: dict[str, Any] | None = None
    unwritten: tuple[str, ...] = ()
    try:
        perf = writing.result()
    except NotFound:
        if test.state is State.SUCCEEDED:
            raise
    except OSError as error:
        perf = await client.perf_report(test)
        reason = (error.strerror or str(error)).lower()
        unwritten = (f"{folder}: {reason}. The platform has all of it: evalmesh perf show {test.id}",)
    return PerfOutcome(test, folder, perf, interrupted=interrupted, export_errors=unwritten)


async def _end(client: "AsyncClient", test: LoadTest) -> LoadTest:
    with suppress(FailedPrecondition):  # it has ended by itself
        await client.cancel_load_test(test)
    return await _wait_ended(client, test)


async def _wait_ended(client: "AsyncClient", test: LoadTest) -> LoadTest:
    try:
        return await asyncio.wait_for(client.wait_load_test(test), _REPORT_WAIT_S)
    except TimeoutError:
        raise DeadlineExceeded(
            f"{test.id} was told to end, and had no report within {_REPORT_WAIT_S:.0f} s. See the logs, free disk "
            f"space if there is none, and try: evalmesh perf cancel {test.id}"
        ) from None
