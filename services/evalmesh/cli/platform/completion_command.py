"""`evalmesh completion SHELL`: prints what makes a shell complete commands, flags and names of benchmarks."""

import argparse

import shtab

from evalmesh.benchmarks import registry
from evalmesh.cli import exits
from evalmesh.cli.flags import whole_parser

_FILES = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}


def run(args: argparse.Namespace) -> int:
    """To standard output, for the shell to read at its start."""
    parser = whole_parser()
    _describe(parser)
    print(shtab.complete(parser, args.shell))
    return exits.OK


def _describe(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:  # noqa: SLF001  (argparse has no other way to look at them)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for one in action.choices.values():
                _describe(one)
        elif action.dest == "datasets":
            action.choices = registry.names()
        elif str(action.metavar) in _FILES:
            action.complete = _FILES[str(action.metavar)]  # type: ignore[attr-defined]  # what shtab looks for
