"""The flags of `evalmesh perf` and of its actions. Imports nothing heavy."""

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence

from evalmesh.cli.exits import PERF_HELP
from evalmesh.cli.parser import (
    Parser,
    PlaceOptions,
    add_actions,
    add_command,
    add_foreign,
    add_looks,
    add_options,
    config_flag,
    form_flag,
    whole,
)
from evalmesh.cli.perf.keys import FOREIGN
from evalmesh.cli.perf.options import PerfOptions

_EPILOG = f"""\
actions on load tests (each has a --help):
    evalmesh perf list | watch ID | cancel ID | show [ID] | compare A B... | export ID | preview ... | datasets

try:
    evalmesh simulate --port 8801 --ttft 50ms --itl 5ms &
    evalmesh perf --url http://127.0.0.1:8801/v1/chat/completions --model simulated --parallel 1 8 --number 50

{PERF_HELP}"""


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Adds what the word after `perf` asks for: one of the actions, or else the flags of a load test, which is run."""
    parser.epilog = _EPILOG
    if words and not words[0].startswith("-"):
        _add_actions(parser)
        return
    parser.description = "Measures an endpoint under load: a sweep of levels, an arrival process, a trace, or a search."
    parser.set_defaults(action="run")
    _test_flags(parser)


def _test_flags(parser: ArgumentParser) -> None:
    """Everything that describes a load test. Only what was said is in the namespace."""
    config_flag(parser)
    add_options(parser, PerfOptions, said_only=True)
    add_options(parser, PlaceOptions, said_only=True)
    parser.add_argument(
        "--outputs-dir", dest="work_dir", default=SUPPRESS, metavar="DIR", help="the same as --work-dir"
    )
    add_foreign(parser, FOREIGN)


def _add_actions(parser: Parser) -> None:
    actions = add_actions(parser)
    add_looks(actions, "load_test", "ID")
    show = add_command(actions, "show", "print the tables of a load test")
    show.add_argument("load_test", nargs="?", metavar="ID", help="id, outputs folder or perf.json (default: newest)")
    compare = add_command(actions, "compare", "compare load tests level by level")
    for name in ("a", "b"):
        compare.add_argument(name, metavar=name.upper(), help="id, outputs folder or perf.json")
    compare.add_argument("more", nargs="*", metavar="C", help="further ones, each against A")
    compare.add_argument("--html", metavar="FILE", help="also write a page: their curves over each other, and tables")
    compare.add_argument(
        "--tolerance", default="3%", metavar="SHARE", help="smallest difference that matters (default: 3%%)"
    )
    compare.add_argument(
        "--fail-on",
        choices=("never", "worse", "undecided"),
        default="never",
        help="exit with 7 where B is worse; with `undecided` also with 8 where that is not known (default: never)",
    )
    export = add_command(actions, "export", "send a load test that has ended to wandb, mlflow, ...")
    export.add_argument("load_test", metavar="ID", help="id, outputs folder or perf.json")
    add_options(export, PerfOptions, {"export": "", "export_args": "", "name": ""})
    add_options(export, PlaceOptions)
    for one in (show, compare, add_command(actions, "datasets", "list what --dataset takes")):
        form_flag(one)
        add_options(one, PlaceOptions)
    preview = add_command(actions, "preview", "print the first request bodies of a load test, and send nothing")
    preview.add_argument("--count", type=whole(1, 20), default=1, metavar="N", help="how many, at most 20 (default: 1)")
    _test_flags(preview)
