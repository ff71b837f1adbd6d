"""`evalmesh runs watch` and `cancel`: runs that go on."""

import argparse
import asyncio
from dataclasses import replace

from evalmesh.cli import exits
from evalmesh.cli.eval.evaluate import Watcher, finish
from evalmesh.cli.eval.outcome import Outcome
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.runs.choosing import chosen_id, to_cancel, to_watch
from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.run import Run
from evalmesh.sdk import AsyncClient

_LOOK_EVERY_S = 2.0
_REPORTS = frozenset({"gateway", "report_aggregator"})


def watch(args: argparse.Namespace) -> int:
    """Follows a run, and ends as `evalmesh eval` does: outputs, table, exit code."""
    place = Place.of(args, at_work=frozenset(), hosted=_REPORTS, processes=False, runners=1)
    outcome = run_async(_watch(args.run, place))
    show_outcome(make_console(), outcome, work_dir=args.work_dir)
    return outcome.exit_code(ignore_errors=False)


async def _watch(text: str | None, place: Place) -> Outcome:
    async with connect(place) as client:
        run_id = await chosen_id(client, text, place) if text else await to_watch(client, place)
        run = await client.get_run(run_id, answered=True)
        if not run.state.terminal and not place.goes_on(run):
            raise _interrupted(run, place)
        folder = RUNS.find_folder(run_id, place.work_dir) or RUNS.folder_of(run, place.work_dir)
        watcher = Watcher(make_console(stderr=True), is_live(), None, place)
        if run.host and not run.state.terminal and place.server is None:
            # Whoever hosts it writes its outputs; two would write the same files.
            watcher = replace(watcher, writes=False)
        watching = asyncio.ensure_future(finish(client, run, folder, watcher))
        looking = asyncio.ensure_future(_until_interrupted(client, run, place))
        try:
            await asyncio.wait({watching, looking}, return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                raise _interrupted(run, place)
            return await watching
        finally:
            for task in (watching, looking):
                task.cancel()
            await asyncio.gather(watching, looking, return_exceptions=True)


async def _until_interrupted(client: AsyncClient, run: Run, place: Place) -> None:
    """Returns when whoever works on the run is gone, and it has not ended."""
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        if not place.goes_on(run):
            run = await client.get_run(run)
            if not run.state.terminal and not place.goes_on(run):
                return


def _interrupted(run: Run, place: Place) -> FailedPrecondition:
    return FailedPrecondition(
        f"Run {run.id} was interrupted and is not going on; take it up with: evalmesh runs resume {run.id}{place.flags}"
    )


def cancel(args: argparse.Namespace) -> int:
    """Ends a run; what is finished is reported."""
    place = Place.of(args, at_work=frozenset({"report_aggregator"}), processes=False, runners=1)
    cancelled = run_async(_cancel(args.run, place))
    print(f"{cancelled.id} {cancelled.state.value.lower()}")
    return exits.OK


async def _cancel(text: str | None, place: Place) -> Run:
    async with connect(place) as client:
        run_id = await chosen_id(client, text, place) if text else await to_cancel(client, place)
        await client.cancel_run(run_id)
        return await client.wait_run(run_id)
