"""`evalmesh perf show` and `compare`: looks at reports. One that lies in a file is read without any platform."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.cli.perf.show import show_perf
from evalmesh.cli.perf.values import parse_share
from evalmesh.cli.printing import emit
from evalmesh.cli.which import LATEST
from evalmesh.domain.errors import InvalidInput, NotFound

MOST_COMPARED = 6
_PATH_SIGNS = frozenset("/\\*?[")
"""No id has one of these."""


def show(args: argparse.Namespace) -> int:
    """`perf show`."""
    perf = _report(args.load_test or LATEST, args)
    if args.format == "json":
        print(json.dumps(perf, indent=2))
    else:
        show_perf(make_console(), perf)
    return exits.OK


def _report(text: str, args: argparse.Namespace) -> dict[str, Any]:
    """The document behind a path or an id."""
    work_dir = Path(args.work_dir).expanduser()
    if text == LATEST:
        text = str(LOAD_TESTS.newest_folder(work_dir))
    path = LOAD_TESTS.report_at(Path(text).expanduser())
    if path is not None:
        return LOAD_TESTS.read_report(path)
    if _PATH_SIGNS.intersection(text) and not Path(text).expanduser().exists():
        raise NotFound(
            f"There is no {text!r} here; give an outputs folder or its perf.json, or an id as `evalmesh perf list` "
            "shows it."
        )
    test_id = LOAD_TESTS.path_id(text) or text if args.server else LOAD_TESTS.id_of(text, work_dir)
    folder = LOAD_TESTS.find_folder(test_id, work_dir)
    if folder is not None and (path := LOAD_TESTS.report_at(folder)) is not None:
        return LOAD_TESTS.read_report(path)
    return _fetched(test_id, args)


def _fetched(test_id: str, args: argparse.Namespace) -> dict[str, Any]:
    # The platform takes a second to load.
    from evalmesh.cli.perf.actions import NOBODY, place_of_args  # noqa: PLC0415
    from evalmesh.cli.platform.session import connect, run_async  # noqa: PLC0415

    async def fetch() -> dict[str, Any]:
        async with connect(place_of_args(args, NOBODY)) as client:
            return await client.perf_report(test_id)

    return run_async(fetch())


def compare(args: argparse.Namespace) -> int:
    """`perf compare`: each load test against the first."""
    from evalmesh.cli.perf.compare import compare_reports, render_comparison  # noqa: PLC0415  # needs numpy

    tolerance = parse_share(args.tolerance, "tolerance")
    names = [args.a, args.b, *args.more]
    if len(names) > MOST_COMPARED:
        raise InvalidInput(
            f"{len(names)} load tests are more than a reader can tell apart; give {MOST_COMPARED} at most."
        )
    perfs = [_report(name, args) for name in names]
    results = [compare_reports(perfs[0], perf, tolerance) for perf in perfs[1:]]
    for name, perf, result in zip(names[1:], perfs[1:], results, strict=True):
        if not result["levels"]:
            raise InvalidInput(
                f"No level has the same load on both sides, so nothing can be compared: {args.a} has "
                f"{_loads(perfs[0])}, and {name} has {_loads(perf)}. Run one of them again with the load of the other "
                "(evalmesh perf -c perf.yaml)."
            )
    if args.html:
        from evalmesh.pages.load_tests.comparison import render_comparison_html  # noqa: PLC0415  # brings Jinja

        emit([render_comparison_html(perfs, results)], args.html)
    if args.format == "json":
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        for result in results:
            render_comparison(make_console(), result)
    codes = {_gate(result["verdict"], args.fail_on) for result in results}
    return exits.OBJECTIVE_MISSED if exits.OBJECTIVE_MISSED in codes else max(codes)


def _gate(verdict: str | None, fail_on: str) -> int:
    """What a pipeline should do: stop at what is worse, and with `undecided` also at what nobody knows."""
    if fail_on == "never":
        return exits.OK
    if verdict == "worse":
        return exits.OBJECTIVE_MISSED
    return exits.OBJECTIVE_UNDECIDED if fail_on == "undecided" and verdict in {"undecided", None} else exits.OK


def _loads(perf: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(level["label"] for level in perf["levels"])) or "no level"


def export(args: argparse.Namespace) -> int:
    """`perf export`."""
    from evalmesh.cli.perf.exports import export_again  # noqa: PLC0415  # needs the config, which is slow to load

    return export_again(args)


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {"show": show, "compare": compare, "export": export}
