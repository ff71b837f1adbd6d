"""`evalmesh compare`: runs against a baseline, sample by sample."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.eval.compare_forms import FORMS, pieces
from evalmesh.cli.eval.compare_table import show_comparison, show_gates
from evalmesh.cli.eval.found import FoundRun, find_run
from evalmesh.cli.printing import console_for, emit, form_of
from evalmesh.domain.comparison import ComparisonWish
from evalmesh.results.comparing.alike import Source
from evalmesh.results.comparing.comparison import compare_runs
from evalmesh.results.comparing.gates import judge_gates, parse_gate
from evalmesh.sdk import Client

_SHOWN_FLIPS = 20
_PAGE_FLIPS = 200


def run(args: argparse.Namespace) -> int:
    """Compares, prints, judges the gates."""
    form = form_of(args, FORMS)
    gates = [parse_gate(text) for text in args.gate]
    wish = ComparisonWish(
        benchmarks=tuple(args.datasets or ()),
        all_metrics=args.all_metrics,
        judged=frozenset(gate.judged for gate in gates),
        force=args.force,
        flips=_flips_of(args.flips, form),
        texts=form == "html",
    )
    with ExitStack() as stack:
        found = [find_run(text, args) for text in args.runs]
        parts = compared(found, wish, args.server, stack)
        document = next(parts)
        outcomes = document["gates"] = judge_gates(gates, document, args.gate_by)
        if form == "table":
            _print_table(document, parts, args)
        else:
            flips = None if args.flips is None and form == "csv" else parts
            emit(pieces(form, document, flips, verbose=args.verbose), args.output)
            show_gates(make_console(stderr=True), document)
    return exit_code(outcomes)


def _print_table(document: dict[str, Any], flips: Iterable[dict[str, Any]], args: argparse.Namespace) -> None:
    console, text = console_for(args.output)
    show_comparison(console, document, flips, verbose=args.verbose)
    show_gates(console, document)
    if text is not None:
        emit([text.getvalue()], args.output)


def _flips_of(said: int | None, form: str) -> int | None:
    """How many are fetched of each benchmark: JSON has them all unless a number is said, and CSV once it is asked."""
    if said is None:
        return {"json": None, "html": _PAGE_FLIPS}.get(form, 0)
    return said if said >= 0 else {"table": _SHOWN_FLIPS, "markdown": _SHOWN_FLIPS, "html": _PAGE_FLIPS}.get(form)


def exit_code(outcomes: Sequence[Mapping[str, Any]]) -> int:
    """A gate that is missed weighs more than one that is undecided."""
    found = {one["outcome"] for one in outcomes}
    if "missed" in found:
        return exits.GATE_MISSED
    return exits.GATE_UNDECIDED if "undecided" in found else exits.OK


def compared(
    found: Sequence[FoundRun], wish: ComparisonWish, server: str | None, stack: ExitStack
) -> Iterator[dict[str, Any]]:
    """The document, then its flips: from the server where it has all of the runs, else from files."""
    if server and all(one.folder is None for one in found):
        client = stack.enter_context(Client(server))
        return client.comparison([one.id for one in found], wish)
    near = [_near(one, wish, server, stack) for one in found]
    sources = [Source(one.report, one.open) for one in near]
    comparison = compare_runs(sources, wish, datetime.now(UTC).isoformat(timespec="seconds"))
    flips = iter(()) if wish.flips == 0 else comparison.flips(wish.flips, texts=wish.texts)
    return chain([comparison.document], flips)


def _near(one: FoundRun, wish: ComparisonWish, server: str | None, stack: ExitStack) -> FoundRun:
    """The run with its results on this machine: the others it is compared with lie here."""
    if one.folder is not None or server is None:
        return one
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="evalmesh-compare-")))
    with Client(server) as client:
        for benchmark in one.report["benchmarks"]:
            if not wish.benchmarks or benchmark["name"] in wish.benchmarks:
                file = f"results/{benchmark['name']}.parquet"
                client.export(one.id, file, folder / file)
    return replace(one, folder=folder)
