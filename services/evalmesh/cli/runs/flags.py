"""The flags of `evalmesh runs`. Imports nothing heavy."""

import argparse
from collections.abc import Sequence
from typing import Any

from evalmesh.cli.eval.options import TaskOptions
from evalmesh.cli.parser import Parser, PlaceOptions, add_actions, add_command, add_options, form_flag, whole

STATES = ("going-on", "interrupted", "succeeded", "failed", "cancelled")
RUN_HELP = "id, its beginning or end, name, outputs folder or its last part, latest"
_DEFAULTS = {
    "show": "the newest",
    "watch": "the newest that is going on",
    "cancel": "the one that is going on",
    "resume": "the newest that was interrupted or failed",
    "export": "the newest",
}


_MEANT = {
    **dict.fromkeys(("rm", "remove", "del"), "delete"),
    **dict.fromkeys(("gc", "clean", "cleanup", "purge"), "prune"),
    **dict.fromkeys(("ls", "ps"), "list"),
    **dict.fromkeys(("stop", "kill", "abort", "end"), "cancel"),
    **dict.fromkeys(("get", "describe", "info", "status", "inspect"), "show"),
    **dict.fromkeys(("follow", "tail", "attach", "logs"), "watch"),
    **dict.fromkeys(("continue", "restart", "rerun", "retry"), "resume"),
    **dict.fromkeys(("download", "save", "archive"), "export"),
}


def add_arguments(parser: Parser, _: Sequence[str]) -> None:
    """All actions."""
    parser.meant = _MEANT
    actions = add_actions(parser)
    listing = add_command(actions, "list", "list runs, newest first")
    listing.add_argument("--limit", type=whole(1), default=20, metavar="N", help="at most this many (default: 20)")
    _filters(listing)
    _since(listing)
    sizes = argparse.BooleanOptionalAction
    listing.add_argument("--sizes", action=sizes, default=None, help="how large they are (default: unless --server)")
    form_flag(listing, "csv")
    add_options(listing, PlaceOptions)

    form_flag(_one(actions, "show", "show a run: state, scores, labels, folder, size"))
    _one(actions, "watch", "follow a run until it ends, then write its outputs and print its table")
    _one(actions, "cancel", "end a run; what is finished stays")
    resume = _one(actions, "resume", "go on where a run stopped; nothing that exists is computed again")
    resume.add_argument("--rescore", action="store_true", help="score and report again from the stored completions")
    own = {
        "api_url": "where the model is now (default: where it was)",
        "api_key": "the key, if the run was given one literally, or another one from now on",
        "headers": "the headers that held keys, if the run was given some literally",
        "ready_timeout": "",
        "processes": "",
        "runners": "",
        "ignore_errors": "",
    }
    add_options(resume, TaskOptions, own)
    _delete(actions)
    _prune(actions)
    export = _one(actions, "export", "write a run's outputs into a folder or archive that needs nothing else")
    export.add_argument("--to", metavar="PATH", help="a folder, or FILE.tar.gz (default: {time}_{id}.tar.gz here)")


def _one(actions: Any, name: str, text: str) -> Parser:
    one = add_command(actions, name, text)
    one.add_argument("run", nargs="?", metavar="RUN", help=f"{RUN_HELP} (default: {_DEFAULTS[name]})")
    add_options(one, PlaceOptions)
    return one


def _filters(parser: Parser) -> None:
    add = parser.add_argument_group("which").add_argument
    add("--state", nargs="+", choices=STATES, metavar="STATE", help=f"in one of these: {', '.join(STATES)}")
    add("--model", metavar="TEXT", default="", help="whose model's name contains it")
    add("--benchmark", metavar="NAME", default="", help="of this benchmark")
    add("--label", action="append", default=[], metavar="K=V", help="with this label; may be repeated")
    add("--name", metavar="TEXT", default="", help="whose name contains it")


def _since(parser: Parser) -> None:
    parser.add_argument("--since", metavar="WHEN", help="made since: 12h, 7d, 2026-11-30")


def _delete(actions: Any) -> None:
    delete = add_command(actions, "delete", "delete runs that have ended, and free what they hold")
    delete.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    _freeing(delete)


def _prune(actions: Any) -> None:
    prune = add_command(actions, "prune", "delete runs by age, number or state")
    prune.add_argument("--older-than", metavar="AGE", help="made longer ago: 12h, 30d, 8w")
    prune.add_argument("--keep", type=whole(0), metavar="N", help="leave the newest N of those meant")
    _filters(prune)
    _freeing(prune)


def _freeing(parser: Parser) -> None:
    parser.add_argument("--outputs", action="store_true", help="also delete their outputs folders")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be freed")
    add_options(parser, PlaceOptions)
