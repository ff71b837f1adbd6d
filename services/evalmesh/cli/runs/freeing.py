"""`evalmesh runs delete` and `prune`: what ended runs hold is given back."""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalmesh.cli import exits
from evalmesh.cli.amounts import bytes_text, folder_bytes, parse_age_s
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.runs.choosing import chosen_id
from evalmesh.cli.runs.listing import filter_of, look_place, of_states, state_of
from evalmesh.domain.errors import EvalmeshError, FailedPrecondition, InvalidInput, NotFound
from evalmesh.domain.layout import run_prefix
from evalmesh.sdk import AsyncClient


@dataclass(slots=True)
class _Freed:
    """What came of it."""

    runs: int = 0
    bytes: int = 0
    refused: int = 0


def delete(args: argparse.Namespace) -> int:
    """Deletes the runs that are named; each is a run of its own, so that one that is refused keeps no other."""
    place = replace(look_place(args), only_looks=args.dry_run)
    return _told(run_async(_delete(args, place)), args)


async def _delete(args: argparse.Namespace, place: Place) -> _Freed:
    async with connect(place) as client:
        # All words are understood before anything is deleted.
        ids = dict.fromkeys([await chosen_id(client, text, place) for text in args.runs])
        return await _free(client, list(ids), args, place)


def prune(args: argparse.Namespace) -> int:
    """Deletes the runs that the flags mean, but for those that go on."""
    if args.older_than is None and args.keep is None and not args.state:
        raise InvalidInput(
            "Say what to prune: --older-than 30d, --keep N (the newest N stay), or --state failed; --dry-run only "
            "looks.",
            {"field": "older_than"},
        )
    return _told(run_async(_prune(args, replace(look_place(args), only_looks=args.dry_run))), args)


async def _prune(args: argparse.Namespace, place: Place) -> _Freed:
    before = time.time() - parse_age_s(args.older_than, "--older-than") if args.older_than else float("inf")
    where = filter_of(args)
    async with connect(place) as client:
        if args.state:
            runs, _ = await of_states(client, where, args.state, place)
        else:
            runs = [run async for run in client.list_runs(where=where)]
        ended = [run for run in runs if state_of(run, place) != "going-on"][args.keep or 0 :]
        # Newest first, so that what reuses a run goes before that.
        return await _free(client, [run.id for run in ended if run.create_time < before], args, place)


async def _free(client: AsyncClient, ids: Sequence[str], args: argparse.Namespace, place: Place) -> _Freed:
    freed = _Freed()
    for run_id in sorted(ids, reverse=True):
        try:
            count = await _free_one(client, run_id, args, place)
        except EvalmeshError as error:
            if not isinstance(error, (FailedPrecondition, NotFound)):
                raise
            print(f"evalmesh: {error.message}", file=sys.stderr)
            freed.refused += 1
            continue
        freed.runs += 1
        freed.bytes += count
    return freed


async def _free_one(client: AsyncClient, run_id: str, args: argparse.Namespace, place: Place) -> int:
    folder = RUNS.find_folder(run_id, place.work_dir)
    try:
        run = await client.get_run(run_id)
        interrupted = not run.state.terminal and not place.goes_on(run)
        count = await client.delete_run(run, takeover=interrupted, validate_only=args.dry_run)
    except NotFound:
        if folder is None or not args.outputs:
            raise
        count = 0  # its platform's data are gone already; only the outputs are left
    if place.server is None and not args.dry_run:
        # Folders, and what a writer that was killed had begun: neither is an object, and nobody writes there again.
        shutil.rmtree(place.settings().state_dir / "objects" / run_prefix(run_id), ignore_errors=True)
    outputs = folder_bytes(folder) if folder is not None else 0
    told = "would free" if args.dry_run else "freed"
    if folder is not None and args.outputs:
        count += outputs
        if not args.dry_run:
            RUNS.clear(folder, place.work_dir)
        print(f"{run_id}  {told} {bytes_text(count)}, outputs in {folder} included")
    else:
        rest = f"; {bytes_text(outputs)} of outputs stay in {folder} (--outputs)" if folder is not None else ""
        print(f"{run_id}  {told} {bytes_text(count)}{rest}")
    return count


def _told(freed: _Freed, args: argparse.Namespace) -> int:
    verb = "would be deleted" if args.dry_run else "deleted"
    what = f"{freed.runs} run{'' if freed.runs == 1 else 's'} {verb}"
    print(f"{what}, {bytes_text(freed.bytes)} {'would be ' if args.dry_run else ''}freed")
    # A prune leaves alone what may not go; who named a run wanted that one gone.
    return exits.BAD_INPUT if freed.refused and args.action == "delete" else exits.OK
