"""`evalmesh perf`: a load test, and the actions on load tests."""

import argparse
from importlib import import_module

from evalmesh.cli.perf_config import load_perf_config

_NOT_CONFIG = frozenset({"command", "action", "module", "parser", "config", "count"})
_MODULES = {
    "run": "perf_command",
    "preview": "perf_command",
    # Reports in files are looked at without loading the platform.
    "show": "perf_reports",
    "compare": "perf_reports",
    "list": "perf_actions",
    "watch": "perf_actions",
    "cancel": "perf_actions",
    "datasets": "perf_actions",
}


def run(args: argparse.Namespace) -> int:
    """What was asked for. A config is checked before anything heavy is loaded."""
    if _MODULES[args.action] == "perf_command":
        said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
        args.config = load_perf_config(args.config, said)
    module = import_module(f"evalmesh.cli.{_MODULES[args.action]}")
    return int(module.ACTIONS[args.action](args))
