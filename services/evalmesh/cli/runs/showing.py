"""`evalmesh runs show`: one run in words."""

import argparse
import json
from collections.abc import Iterator
from shlex import quote

from rich.text import Text

from evalmesh.cli import exits
from evalmesh.cli.amounts import bytes_text
from evalmesh.cli.console import make_console
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.runs.choosing import chosen_id
from evalmesh.cli.runs.listing import Entry, answered_text, entry_of, labels_text, look_place, score_text
from evalmesh.cli.tables import Column, Grid
from evalmesh.cli.which import LATEST, time_text


def show(args: argparse.Namespace) -> int:
    """Prints it."""
    place = look_place(args)
    entry = run_async(_look(args.run or LATEST, place))
    if args.format == "json":
        print(json.dumps(entry.as_json(), indent=2, ensure_ascii=False))
        return exits.OK
    console = make_console()
    for what, value in _facts(entry):
        console.print(Text.assemble((f"{what:<10}", "dim"), value), soft_wrap=True)
    _benchmarks(entry).print_to(console)
    for line in _next(entry, place):
        console.print(Text(line), soft_wrap=True)
    return exits.OK


async def _look(text: str, place: Place) -> Entry:
    async with connect(place) as client:
        run = await client.get_run(await chosen_id(client, text, place))
        return await entry_of(client, run, place, sizes=True)


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    run, spec = entry.run, entry.run.spec
    yield "run", run.id
    if spec.display_name:
        yield "name", spec.display_name
    yield "state", f"{entry.state}{f': {run.error}' if run.error else ''}"
    if run.notice:
        yield "waits", run.notice
    yield "model", f"{spec.model.label}{f' at {spec.model.url}' if spec.model.url else ''}"
    yield "created", time_text(run.create_time)
    if run.end_time is not None:
        began = run.start_time or run.create_time
        yield "ended", f"{time_text(run.end_time)}, after {run.end_time - began:,.1f} s"
    if run.attempt:
        yield "resumed", f"{run.attempt} time{'s' if run.attempt > 1 else ''}"
    if spec.reuse_runs:
        yield "reuses", " ".join(spec.reuse_runs)
    if spec.labels:
        yield "labels", labels_text(spec.labels)
    yield "size", f"{bytes_text(run.size_bytes)} of data, {bytes_text(entry.outputs_bytes)} of outputs"
    yield "outputs", str(entry.folder) if entry.folder else "none here"


def _benchmarks(entry: Entry) -> Grid:
    rows = entry.run.benchmarks
    cells = {
        "Benchmark": [b.name for b in rows],
        "Score": [score_text(b) for b in rows],
        "Answered": [answered_text(b) for b in rows],
        "Scored": [f"{b.done - b.errored - b.unscored}" for b in rows],
        "Unscored": [str(b.unscored or "") for b in rows],
        "Errored": [str(b.errored or "") for b in rows],
    }
    return Grid.of([(Column(name, at, right=at > 0), each) for at, (name, each) in enumerate(cells.items())])


def _next(entry: Entry, place: Place) -> Iterator[str]:
    where = place.flags
    run = entry.run.id
    if entry.state in {"interrupted", "failed", "cancelled"}:
        yield f"next     evalmesh runs resume {run}{where}"
    elif entry.state != "succeeded":
        yield f"next     evalmesh runs watch {run}{where}"
    elif entry.folder is None or not (entry.folder / "report.json").is_file():
        yield f"next     evalmesh runs resume {run}{where}   # writes its outputs, asks nothing"
    else:
        yield f"next     evalmesh report {quote(str(entry.folder))}"
