"""`evalmesh runs list`."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalmesh.cli import exits
from evalmesh.cli.amounts import bytes_text, folder_bytes, parse_moment
from evalmesh.cli.console import make_console
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.tables import Column, Grid
from evalmesh.cli.which import time_text
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import run_prefix
from evalmesh.domain.run import BenchmarkProgress, Run
from evalmesh.domain.run_filter import RunFilter
from evalmesh.domain.state import State
from evalmesh.local.remembered import remembered

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # a look at what is remembered needs no gRPC

_MOST = 1000
_SHOWN_BENCHMARKS = 3
_ENDED = {"succeeded": State.SUCCEEDED, "failed": State.FAILED, "cancelled": State.CANCELLED}
LOOKING: frozenset[str] = frozenset()
"""Services that take work: a look at the runs must not start what is queued."""
GOING_ON = frozenset({State.QUEUED, State.PLANNING, State.RUNNING, State.CANCELLING})
RECORDS = frozenset({"gateway"})
"""Services that are there: all that a look needs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run, and what this machine knows of it."""

    run: Run
    state: str
    folder: Path | None
    outputs_bytes: int = 0

    @property
    def bytes_text(self) -> str:
        """Objects and outputs together; empty where nobody asked."""
        total = self.run.size_bytes + self.outputs_bytes
        return bytes_text(total) if total else ""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        run = self.run
        return {
            "id": run.id,
            "state": self.state.upper(),
            "display_name": run.spec.display_name,
            "create_time": datetime.fromtimestamp(run.create_time, UTC).isoformat(),
            "error": run.error,
            "model": run.spec.model.label,
            "benchmarks": [
                {
                    "name": b.name,
                    "score": b.value,
                    "total": b.total,
                    "done": b.done,
                    "answered": max(b.generated, b.done),
                    "errored": b.errored,
                    "unscored": b.unscored,
                }
                for b in run.benchmarks
            ],
            "labels": dict(run.spec.labels),
            "folder": str(self.folder) if self.folder else None,
            "size_bytes": run.size_bytes,
            "outputs_bytes": self.outputs_bytes,
        }


def look_place(args: argparse.Namespace) -> Place:
    """The platform the flags name, or one here in which nobody works."""
    return Place.of(args, at_work=LOOKING, hosted=RECORDS, processes=False, runners=1, only_looks=True)


def list_runs(args: argparse.Namespace) -> int:
    """Prints the newest runs that are meant."""
    place = look_place(args)
    where = filter_of(args)
    with_sizes = args.sizes if args.sizes is not None else place.server is None
    known = None if place.server else _remembered(args, where, place, sizes=with_sizes)
    entries, total = known or run_async(_find(args, where, place, with_sizes))
    if args.format == "json":
        print(json.dumps([one.as_json() for one in entries], indent=2, ensure_ascii=False))
    elif args.format == "csv":
        _print_csv(entries)
    elif entries:
        _table(entries).print_to(make_console())
        if total > len(entries):
            print(f"{total - len(entries)} more; see them with --limit {total}")
    elif where == RunFilter() and not args.state:
        print(_nothing_yet(None if place.server else Path(args.work_dir)))
    else:
        print("no run is like that; see all with: evalmesh runs list")
    return exits.OK


def _nothing_yet(work_dir: Path | None) -> str:
    left = sum(1 for _ in work_dir.glob("*/report.json")) if work_dir else 0
    if left:
        folders = "1 outputs folder is" if left == 1 else f"{left} outputs folders are"
        return f"no runs here; {folders} in {work_dir}: evalmesh report FOLDER, evalmesh runs resume FOLDER"
    return "no runs yet; try: evalmesh eval --demo"


def filter_of(args: argparse.Namespace) -> RunFilter:
    """What the flags mean, but for the states. Raises `InvalidInput`."""
    labels = {}
    for text in args.label:
        key, found, value = text.partition("=")
        if not found or not key:
            raise InvalidInput(f"--label: {text!r} is no label; write it as KEY=VALUE.", {"field": "label"})
        labels[key] = value
    since = parse_moment(args.since, "--since", time.time()) if getattr(args, "since", None) else 0.0
    return RunFilter(model=args.model, benchmark=args.benchmark, labels=labels, display_name=args.name, since=since)


def _remembered(
    args: argparse.Namespace, where: RunFilter, place: Place, *, sizes: bool
) -> tuple[list[Entry], int] | None:
    """The same by what the last platform here left, without starting another; `None` where it left nothing."""
    runs = remembered(place.settings())
    if runs is None:
        return None
    meant = [run for run in runs if where.matches(run) and (not args.state or state_of(run, place) in args.state)]
    shown = [_stored(run, place) if sizes else run for run in meant[: args.limit]]
    return [_entry(run, place, sizes=sizes) for run in shown], len(meant)


def _stored(run: Run, place: Place) -> Run:
    settings = place.settings()
    return replace(run, size_bytes=folder_bytes(settings.state_dir / "objects" / run_prefix(run.id)))


async def of_states(
    client: "AsyncClient", where: RunFilter, states: Sequence[str] | None, place: Place
) -> tuple[list[Run], int]:
    """Runs in one of the states, as the command line calls them, and how many there are in all."""
    if not states:
        return await client.find_runs(where, _MOST)
    wanted = {_ENDED[one] for one in states if one in _ENDED}
    if set(states) <= set(_ENDED):
        return await client.find_runs(_in(where, frozenset(wanted)), _MOST)
    found = [run async for run in client.list_runs(where=_in(where, frozenset(wanted) | GOING_ON))]
    meant = [run for run in found if state_of(run, place) in states]
    return meant, len(meant)


def _in(where: RunFilter, states: frozenset[State]) -> RunFilter:
    return RunFilter(states, where.model, where.benchmark, where.labels, where.display_name, where.since)


def state_of(run: Run, place: Place) -> str:
    """In the words of `--state`."""
    if run.state.terminal:
        return run.state.value.lower()
    return "going-on" if place.goes_on(run) else "interrupted"


def shown_state(run: Run, place: Place) -> str:
    """In the words of tables: a run that goes on says how far it is."""
    state = state_of(run, place)
    return run.state.value.lower() if state == "going-on" else state


async def _find(
    args: argparse.Namespace,
    where: RunFilter,
    place: Place,
    sizes: bool,  # noqa: FBT001  (a flag's value)
) -> tuple[list[Entry], int]:
    async with connect(place) as client:
        if args.state:
            runs, total = await of_states(client, where, args.state, place)
        else:
            runs, total = await client.find_runs(where, args.limit)
        return [await entry_of(client, run, place, sizes=sizes) for run in runs[: args.limit]], total


async def entry_of(client: "AsyncClient", run: Run, place: Place, *, sizes: bool) -> Entry:
    """With what costs a look into the object store, where it can tell something."""
    unfinished = run.state is not State.SUCCEEDED
    if sizes or unfinished:
        run = await client.get_run(run, size=sizes, answered=unfinished)
    return _entry(run, place, sizes=sizes)


def _entry(run: Run, place: Place, *, sizes: bool) -> Entry:
    folder = RUNS.find_folder(run.id, place.work_dir)
    return Entry(run, shown_state(run, place), folder, folder_bytes(folder) if folder and sizes else 0)


def answered_text(b: BenchmarkProgress) -> str:
    """`58/122`: what need not be asked any more."""
    return f"{max(b.generated, b.done)}/{b.total}"


def score_text(b: BenchmarkProgress) -> str:
    """Of the primary metric."""
    return "" if b.value is None else f"{b.value:.4f}"


def labels_text(labels: Mapping[str, str]) -> str:
    """`a=b c=d`."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _table(entries: Sequence[Entry]) -> Grid:
    def lines(values: Sequence[str]) -> list[str]:
        more = len(values) - _SHOWN_BENCHMARKS
        return [*values[:_SHOWN_BENCHMARKS], *([f"{more} more"] if more > 0 else [])]

    def of_benchmarks(
        heading: str, cell: Any, spare: int, *, right: bool = False
    ) -> tuple[Column, Sequence[Sequence[str]]]:
        return Column(heading, spare, right), [lines([cell(b) for b in one.run.benchmarks]) for one in entries]

    def of_run(heading: str, cell: Any, spare: int, *, right: bool = False) -> tuple[Column, Sequence[str]]:
        return Column(heading, spare, right), [cell(one) for one in entries]

    columns: list[tuple[Column, Sequence[str | Sequence[str]]]] = [
        of_run("Run", lambda one: one.run.id, 0),
        of_run("State", lambda one: one.state, 1),
        of_run("Name", lambda one: one.run.spec.display_name, 5),
        of_run("Model", lambda one: one.run.spec.model.label, 4),
        of_benchmarks("Benchmark", lambda b: b.name, 2),
        of_benchmarks("Score", score_text, 3, right=True),
        of_benchmarks("Answered", answered_text, 6, right=True),
        of_benchmarks("Errored", lambda b: str(b.errored or ""), 9, right=True),
        of_run("Created", lambda one: time_text(one.run.create_time), 7),
        of_run("Size", lambda one: one.bytes_text, 8, right=True),
        of_run("Labels", lambda one: labels_text(one.run.spec.labels), 10),
        of_run("Folder", lambda one: one.folder.name if one.folder else "", 11),
    ]
    return Grid.of(columns)


def _print_csv(entries: Sequence[Entry]) -> None:
    """One row per run and benchmark."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    runs = ("id", "state", "name", "model", "create_time")
    counts = ("benchmark", "score", "total", "done", "answered", "errored", "unscored")
    writer.writerow([*runs, *counts, "labels", "size_bytes", "outputs_bytes", "folder"])
    for entry in entries:
        said = entry.as_json()
        of_run = [said["id"], said["state"], said["display_name"], said["model"], said["create_time"]]
        after = [labels_text(said["labels"]), said["size_bytes"], said["outputs_bytes"], said["folder"]]
        for b in said["benchmarks"]:
            writer.writerow([*of_run, b["name"], *(b[name] for name in counts[1:]), *after])
