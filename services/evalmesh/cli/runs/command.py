"""`evalmesh runs`."""

import argparse
from importlib import import_module

_ACTIONS = {
    "list": "listing",
    "show": "showing",
    "watch": "going",
    "cancel": "going",
    "resume": "resuming",
    "delete": "freeing",
    "prune": "freeing",
    "export": "exporting",
}


def run(args: argparse.Namespace) -> int:
    """One action, which lives in a module of its own."""
    module = import_module(f"evalmesh.cli.runs.{_ACTIONS[args.action]}")
    return int(getattr(module, args.action.replace("list", "list_runs").replace("export", "export_run"))(args))
