"""The actions of `evalmesh perf` on load tests that exist, and looks at what one would send."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.console import is_live, make_console
from evalmesh.cli.listing import Listing
from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.cli.perf.live import LoadProgress, errors_text
from evalmesh.cli.perf.outputs import write_missing_outputs
from evalmesh.cli.perf.words import level_label, state_words
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.platform.waits import RECONNECT_S, say_lost
from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.state import State
from evalmesh.load_generator.prompts import datasets as load_datasets

NOBODY: frozenset[str] = frozenset()
"""A look at the load tests must not start what is queued."""
_REPORTERS = frozenset({"report_aggregator", "load_generator"})
"""Who must be at work for a cancelled load test to come to its end."""


def place_of_args(args: argparse.Namespace, at_work: frozenset[str]) -> Place:
    """The platform the flags name, or one here in which only `at_work` take work."""
    seats = 1 if "load_generator" in at_work else 0
    return Place.of(args, at_work=at_work, generators=seats)


def _load_text(one: LoadTest) -> str:
    if one.spec.search is not None:
        return f"find max {one.spec.search.variable}"
    labels = list(dict.fromkeys(level_label(level, one.spec.arrival.kind) for level in one.spec.levels))
    return ", ".join(labels[:4]) + (f", {len(labels) - 4} more" if len(labels) > 4 else "")


def _levels_text(one: LoadTest) -> str:
    planned = len(one.levels) if one.spec.search else len(one.spec.levels) * one.spec.repeats
    return f"{sum(level.state == 'done' for level in one.levels)}/{planned}"


def _errors_text(one: LoadTest) -> str:
    return errors_text(sum((Counter(level.errors) for level in one.levels), Counter()))


def _as_json(one: LoadTest) -> dict[str, Any]:
    return {
        "outcome": state_words(one),
        "model": one.spec.target.model,
        "url": one.spec.target.url,
        "levels": [
            {
                "index": level.index,
                "label": level_label(level.level, one.spec.arrival.kind),
                "state": level.state,
                "sent": level.sent,
                "ok": level.ok,
                "errors": dict(level.errors),
                "client_limited": level.client_limited,
                "meets_slo": level.meets_slo,
            }
            for level in one.levels
        ],
    }


_LISTING: Listing[LoadTest] = Listing(
    heading="Load test",
    fetch=lambda client, size: client.list_load_tests(page_size=size),
    columns={
        "Name": lambda one: one.spec.display_name,
        "Model": lambda one: one.spec.target.model,
        "Load": _load_text,
        "Levels": _levels_text,
        "Errors": _errors_text,
    },
    document=_as_json,
    nothing="no load tests yet; try: evalmesh perf --help",
    state=state_words,
)


def _id_of(args: argparse.Namespace) -> str:
    """Which load test is meant: here by what lies in the work directory, at a server by its id or outputs alone."""
    text: str = args.load_test
    return LOAD_TESTS.id_of(text, None if args.server else Path(args.work_dir).expanduser())


def watch(args: argparse.Namespace) -> int:
    """`perf watch`."""
    ended = run_async(_watch(_id_of(args), place_of_args(args, NOBODY)))
    print(f"{ended.id} {state_words(ended)}{f': {ended.error}' if ended.error else ''}")
    codes = {State.CANCELLED: exits.CANCELLED, State.FAILED: exits.FAILED}
    if not any(level.ok for level in ended.levels):
        return codes.get(ended.state, exits.FAILED)
    failed = any(level.errors for level in ended.levels)
    return codes.get(ended.state, exits.PARTIAL if failed else exits.OK)


async def _watch(test_id: str, place: Place) -> LoadTest:
    async with connect(place) as client:
        current = await client.get_load_test(test_id)
        if not current.state.terminal and not place.goes_on(current):
            raise FailedPrecondition(
                f"Load test {test_id} was interrupted and is not going on; end it with: evalmesh perf cancel {test_id}"
            )
        console = make_console(stderr=True)
        lost = say_lost(console, client.address)
        with LoadProgress(console, live=is_live()) as progress:
            async for update, snapshot in client.watch_load_test(current, reconnect_s=RECONNECT_S, on_lost=lost):
                current = update
                progress.update(current, snapshot)
    return current


def cancel(args: argparse.Namespace) -> int:
    """`perf cancel`."""
    test_id = _id_of(args)
    ended, folder = run_async(_cancel(test_id, place_of_args(args, _REPORTERS), Path(args.work_dir).expanduser()))
    print(f"{ended.id} {ended.state.value.lower()}{f', {folder}' if folder else ''}")
    return exits.OK


async def _cancel(test_id: str, place: Place, work_dir: Path) -> tuple[LoadTest, Path | None]:
    async with connect(place) as client:
        going_on = place.goes_on(await client.get_load_test(test_id))
        await client.cancel_load_test(test_id)
        ended = await client.wait_load_test(test_id)
        # Where it is going on, whoever started it waits for its report and writes it.
        return ended, None if going_on else await write_missing_outputs(client, ended, work_dir)


def datasets(args: argparse.Namespace) -> int:
    """`perf datasets`."""
    names = run_async(_datasets(place_of_args(args, NOBODY)))
    if args.format == "json":
        print(json.dumps(names, indent=2))
        return exits.OK
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:{width}}  {_summary(name)}".rstrip())
    return exits.OK


def _summary(name: str) -> str:
    """What it makes, or what its file must hold; empty for one that only the server has."""
    try:
        known = load_datasets.get(name)
    except InvalidInput:
        return ""
    return known.summary if known.name == name else f"The same as {known.name}."


async def _datasets(place: Place) -> list[str]:
    async with connect(place) as client:
        return [name async for name in client.list_load_datasets()]


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "list": lambda args: _LISTING.show(args, place_of_args(args, NOBODY)),
    "watch": watch,
    "cancel": cancel,
    "datasets": datasets,
}
