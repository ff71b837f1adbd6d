"""`evalmesh runs resume`."""

import argparse
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from evalmesh.cli.connections import keys_again, own_connection, reference_to
from evalmesh.cli.eval.evaluate import Watcher, evaluate, finish, say_notes, say_trace, simulated_again
from evalmesh.cli.eval.outcome import Outcome
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.eval.spec import base_url
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.log_mark import LogMark
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.platform.waits import when_ready
from evalmesh.cli.runs.choosing import chosen_id, to_resume
from evalmesh.cli.runs.listing import RECORDS
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.run import Run, RunState
from evalmesh.runtime.telemetry import span
from evalmesh.sdk import AsyncClient


def resume(args: argparse.Namespace) -> int:
    """Goes on with a run to its end, and ends as `evalmesh eval` does."""
    try:
        outcome = run_async(_resume(args, Place.of(args)))
    except NotFound as error:
        folder = outputs_folder(args.run or "", Path(args.work_dir).expanduser())
        if folder is None:
            raise
        _say_new_run(folder, error)
        outcome = run_async(_from_outputs(args, folder))
    show_outcome(make_console(), outcome, work_dir=args.work_dir)
    return outcome.exit_code(ignore_errors=args.ignore_errors)


def _say_new_run(folder: Path, error: NotFound) -> None:
    text = f"{error.message} What the results in {folder} hold is copied into a new run, and the rest is asked."
    make_console(stderr=True).print(text, markup=False, soft_wrap=True)


async def _from_outputs(args: argparse.Namespace, folder: Path) -> Outcome:
    """A new run like one of which only the outputs are left, with all the answers they hold."""
    from evalmesh.cli.eval.config import TaskConfig  # noqa: PLC0415  (few runs need it)

    said = {name: getattr(args, name) for name in ("work_dir", "server", "ignore_errors", "debug")}
    names = ("api_key", "api_url", "headers", "ready_timeout")
    said |= {name: value for name in names if (value := getattr(args, name))}
    config = TaskConfig.load(
        str(folder / RUNS.config_file), {**said, "use_cache": str(folder), "no_timestamp": False, "rerun_review": True}
    )
    return await evaluate(config, make_console(stderr=True), live=is_live())


def outputs_folder(text: str, work_dir: Path) -> Path | None:
    """The outputs folder, with results, that a word on the command line names."""
    path = Path(text).expanduser()
    try:
        folder = path if path.is_dir() else RUNS.find_folder(RUNS.id_of(text, work_dir), work_dir) if text else None
    except (NotFound, InvalidInput):
        return None
    return folder if folder is not None and any((folder / "results").glob("*.parquet")) else None


async def _find(client: AsyncClient, text: str | None, place: Place) -> Run:
    return await client.get_run(await chosen_id(client, text, place) if text else await to_resume(client, place))


def _moves(args: argparse.Namespace, place: Place) -> dict[str, str]:
    """Where the model is now and with which key, as far as that is said: fields of `resume_run`."""
    moves = {"url": base_url(args.api_url)[0]} if args.api_url else {}
    if key := (args.api_key or "").strip():
        moves["key_ref"] = reference_to(key, place.server, moves.get("url", ""))
    return moves


def _with_keys(known: Run, place: Place, args: argparse.Namespace, moves: Mapping[str, str]) -> Place:
    """The place with the run's own keys bound to the run's address: of all keys there are, it needs no others."""
    model = known.asked.model
    model = replace(model, url=moves.get("url") or model.url, key_ref=moves.get("key_ref", model.key_ref))
    keys = keys_again(known.id, model, args.api_key, args.headers or [])
    return replace(place, connections=own_connection(model.url, model.key_ref, model.headers), keys=keys)


async def _resume(args: argparse.Namespace, place: Place) -> Outcome:
    text: str | None = args.run
    moves = _moves(args, place)
    if not place.server:
        look = replace(place, processes=False, runners=1, at_work=frozenset(), hosted=RECORDS)
        async with connect(look) as client:
            known = await _find(client, text, place)
        text = known.id
        if known.state is not RunState.SUCCEEDED:  # else there is nothing to ask for
            place = _with_keys(known, place, args, moves)
    console = make_console(stderr=True)
    mark = LogMark(place.settings().state_dir / "logs")
    async with AsyncExitStack() as stack:
        stack.enter_context(span("evalmesh runs resume"))
        client = await stack.enter_async_context(connect(place))
        known = await _find(client, text, place)
        if not args.api_url:
            await stack.enter_async_context(simulated_again(known))
        folder = RUNS.find_folder(known.id, place.work_dir) or RUNS.folder_of(known, place.work_dir)
        if known.state is RunState.SUCCEEDED and not args.rescore and not (folder / "report.json").is_file():
            # It ended while nobody watched: all that is missing are its outputs.
            resumed = known
        else:
            takeover = not known.state.terminal and not place.goes_on(known)
            wish = partial(client.resume_run, known, takeover=takeover, rescore=args.rescore, **moves)
            resumed = await when_ready(wish, args.ready_timeout, console)
            say_notes(console, resumed.notes)
            say_trace(console, debug=args.debug)
        return await finish(client, resumed, folder, Watcher(console, is_live(), mark, place))
