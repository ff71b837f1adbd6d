"""`evalmesh compare`: runs against a baseline, sample by sample."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.eval.compare_forms import FORMS, pieces
from evalmesh.cli.eval.compare_table import show_comparison, show_gates
from evalmesh.cli.eval.compare_task import compared
from evalmesh.cli.printing import console_for, emit, form_of
from evalmesh.domain.comparison import ComparisonWish
from evalmesh.results.comparing.gates import judge_gates, parse_gate

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
        place = Path(args.work_dir).expanduser(), args.server
        parts = compared(args.runs, wish, place, stack)
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
        return exits.OBJECTIVE_MISSED
    return exits.OBJECTIVE_UNDECIDED if "undecided" in found else exits.OK
