"""`evalmesh runs list|watch|cancel|resume`."""

import argparse
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.connections import literal_key, own_connection, reference_to
from evalmesh.cli.eval.evaluate import Outcome, Watcher, finish, say_notes, simulated_again
from evalmesh.cli.eval.live import RunProgress
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.eval.spec import base_url
from evalmesh.cli.listing import Listing
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.log_mark import LogMark
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.platform.waits import RECONNECT_S, say_lost, when_ready
from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.domain.run import Run, RunState

# A look at the runs must not start what is queued, and a cancel needs only the report of what is there.
_RECORDS = frozenset({"gateway"})
_AT_WORK: dict[str, frozenset[str]] = {
    "list": frozenset(),
    "watch": frozenset(),
    "cancel": frozenset({"report_aggregator"}),
}


def run(args: argparse.Namespace) -> int:
    """One of the four actions."""
    place = Place.of(args, at_work=_AT_WORK.get(args.action)).joined()
    if args.action == "list":
        return _LISTING.show(args, place)
    if args.action == "watch":
        return _end_code(run_async(_watch(RUNS.id_of(args.run), place)))
    if args.action == "cancel":
        cancelled = run_async(_cancel(RUNS.id_of(args.run), place))
        print(f"{cancelled.id} {cancelled.state.value.lower()}")
        return exits.OK
    outcome = run_async(_resume(args, place))
    show_outcome(make_console(), outcome, work_dir=args.work_dir)
    return outcome.exit_code(ignore_errors=args.ignore_errors)


_LISTING: Listing[Run] = Listing(
    heading="Run",
    fetch=lambda client, size: client.list_runs(page_size=size),
    columns={
        "Model": lambda one: one.spec.model.label,
        "Benchmarks": lambda one: " ".join(b.name for b in one.spec.benchmarks),
        "Done": lambda one: f"{sum(b.done for b in one.benchmarks)}/{sum(b.total for b in one.benchmarks)}",
        "Errored": lambda one: str(sum(b.errored for b in one.benchmarks) or ""),
    },
    document=lambda one: {
        "model": one.spec.model.label,
        "benchmarks": [
            {"name": b.name, "total": b.total, "done": b.done, "errored": b.errored, "unscored": b.unscored}
            for b in one.benchmarks
        ],
    },
    nothing="no runs yet; try: evalmesh eval --demo",
)


async def _watch(run_id: str, place: Place) -> Run:
    async with connect(place) as client:
        current = await client.get_run(run_id)
        if not place.server and not current.state.terminal:
            raise FailedPrecondition(
                f"Run {run_id} was interrupted and is not going on; take it up with: evalmesh runs resume {run_id}"
            )
        console = make_console(stderr=True)
        lost = say_lost(console, client.address)
        with RunProgress(console, live=is_live()) as progress:
            async for update in client.watch_run(current, reconnect_s=RECONNECT_S, on_lost=lost):
                current = update
                progress.update(current)
    print(f"{current.id} {current.state.value.lower()}{f': {current.error}' if current.error else ''}")
    return current


def _end_code(ended: Run) -> int:
    if ended.state is RunState.CANCELLED:
        return exits.CANCELLED
    if ended.state is RunState.FAILED:
        return exits.FAILED
    lost = sum(b.errored + b.unscored for b in ended.benchmarks)
    return exits.PARTIAL if lost else exits.OK


async def _cancel(run_id: str, place: Place) -> Run:
    async with connect(place) as client:
        await client.cancel_run(run_id)
        return await client.wait_run(run_id)


async def _with_keys(run_id: str, place: Place, api_key: str, moves: Mapping[str, Any]) -> Place:
    """The place with the run's own keys bound to the run's address: of all keys there are, it needs no others."""
    async with connect(replace(place, processes=False, runners=1, at_work=frozenset(), hosted=_RECORDS)) as client:
        known = await client.get_run(run_id)
    model = known.asked.model
    key_ref = moves.get("key_ref", model.key_ref)
    keys = literal_key(api_key)
    name = key_ref.removeprefix("env:")
    if name != key_ref and not (keys.get(name) or os.environ.get(name)):
        raise InvalidInput(
            f"{known.id} needs the key of its endpoint, which is not kept anywhere: export {name}, or give --api-key.",
            {"field": "api_key"},
        )
    url = moves.get("url") or model.url
    return replace(place, connections=own_connection(url, key_ref, model.headers), keys=keys)


async def _resume(args: argparse.Namespace, place: Place) -> Outcome:
    run_id = RUNS.id_of(args.run)
    moves: dict[str, Any] = {"url": base_url(args.api_url)[0]} if args.api_url else {}
    api_key = (args.api_key or "").strip()
    if api_key:
        moves["key_ref"] = reference_to(api_key, place.server, moves.get("url", ""))
    if not place.server:
        place = await _with_keys(run_id, place, api_key, moves)
    mark = LogMark(place.settings().state_dir / "logs")
    console = make_console(stderr=True)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(place))
        known = await client.get_run(run_id)
        if not args.api_url:
            await stack.enter_async_context(simulated_again(known))
        folder = RUNS.find_folder(run_id, place.work_dir) or RUNS.folder_of(known, place.work_dir)
        if known.state is RunState.SUCCEEDED and not args.rescore and not (folder / "report.json").is_file():
            # It ended while nobody watched: all that is missing are its outputs.
            resumed = known
        else:
            # A platform in this very work directory was started just now, so nobody else is at this run.
            wish = partial(client.resume_run, run_id, takeover=not place.server, rescore=args.rescore, **moves)
            resumed = await when_ready(wish, args.ready_timeout, console)
            say_notes(console, resumed.notes)
        return await finish(client, resumed, folder, Watcher(console, is_live(), mark, place))
