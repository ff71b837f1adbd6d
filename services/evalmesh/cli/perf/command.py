"""`evalmesh perf`: a load test, and the actions on load tests."""

import argparse
import sys
from importlib import import_module

from evalmesh.cli.defaults import told
from evalmesh.cli.perf.config import PerfConfig

_NOT_CONFIG = frozenset({"command", "action", "module", "parser", "config", "count"})
_MODULES = {
    "run": "asking",
    "preview": "asking",
    # Reports in files are looked at without loading the platform.
    "show": "reports",
    "compare": "reports",
    "export": "reports",
    "list": "actions",
    "watch": "actions",
    "cancel": "actions",
    "datasets": "actions",
}


def run(args: argparse.Namespace) -> int:
    """What was asked for. A config is checked before anything heavy is loaded."""
    if _MODULES[args.action] == "asking":
        said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
        for line in [] if args.config else told(PerfConfig.section, PerfConfig.model_fields):
            print(line, file=sys.stderr)
        args.config = PerfConfig.load(args.config, said)
    module = import_module(f"evalmesh.cli.perf.{_MODULES[args.action]}")
    return int(module.ACTIONS[args.action](args))
