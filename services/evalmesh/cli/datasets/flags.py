"""The flags of `evalmesh datasets`. Imports nothing heavy."""

from collections.abc import Sequence

from evalmesh.cli.eval.options import TaskOptions
from evalmesh.cli.parser import Parser, PlaceOptions, add_actions, add_command, add_options, form_flag

_MEANT = {
    **dict.fromkeys(("download", "pull", "get", "bring"), "fetch"),
    **dict.fromkeys(("ls", "show", "kept"), "list"),
    **dict.fromkeys(("urls", "where"), "files"),
}


def add_arguments(parser: Parser, _: Sequence[str]) -> None:
    """All actions."""
    parser.meant = _MEANT
    actions = add_actions(parser)
    for name, text in (
        ("fetch", "bring the data sets of benchmarks to this machine"),
        ("files", "list the files that benchmarks read, where to get them and where to put them"),
    ):
        one = add_command(actions, name, text)
        one.add_argument("names", nargs="+", metavar="NAME", help="a benchmark, NAME=BENCHMARK, ...")
        if name == "fetch":
            one.add_argument("--to", metavar="DIR", help="also put them there, for --dataset-dir on another machine")
        own = ("dataset_args", "dataset_hub", "subset", "num_fewshot")
        add_options(one, TaskOptions, dict.fromkeys(own, ""))
        form_flag(one)
        add_options(one, PlaceOptions, {"debug": ""})
    listing = add_command(actions, "list", "list what is kept of hubs on this machine")
    form_flag(listing)
    add_options(listing, PlaceOptions, {"debug": ""})
