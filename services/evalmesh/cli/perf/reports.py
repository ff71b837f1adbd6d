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
from evalmesh.cli.which import LATEST


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
    """`perf compare`."""
    from evalmesh.cli.perf.compare import compare_reports, render_comparison  # noqa: PLC0415  # needs numpy

    result = compare_reports(_report(args.a, args), _report(args.b, args))
    if args.format == "json":
        print(json.dumps(result, indent=2))
    else:
        render_comparison(make_console(), result)
    return exits.OK


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {"show": show, "compare": compare}
