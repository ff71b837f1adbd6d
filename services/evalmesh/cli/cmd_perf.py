"""`evalmesh perf`: a load test, and the actions on load tests."""

import argparse
import json
from collections.abc import Callable, Mapping

import yaml

from evalmesh.cli import exits, perf_actions
from evalmesh.cli.cmd_eval import plain
from evalmesh.cli.perf_config import PerfConfig, load_perf_config
from evalmesh.cli.perf_run import run_load_test, say_notes, validate
from evalmesh.cli.perf_show import show_outcome
from evalmesh.cli.perf_spec import all_notes
from evalmesh.cli.session import run_async
from evalmesh.cli.show import is_live, make_console

_NOT_CONFIG = frozenset({"command", "action", "module", "parser", "config", "count"})


def run(args: argparse.Namespace) -> int:
    """What was asked for."""
    return _ACTIONS[args.action](args)


def _config(args: argparse.Namespace) -> PerfConfig:
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    return load_perf_config(args.config, said)


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    console = make_console(stderr=True)
    if config.dry_run:
        say_notes(all_notes(config), console)
        print(yaml.safe_dump(plain(run_async(validate(config))), sort_keys=False, allow_unicode=True), end="")
        return exits.OK
    outcome = run_async(run_load_test(config, console, live=is_live()))
    show_outcome(make_console(), outcome)
    return outcome.exit_code(ignore_errors=config.ignore_errors, strict=config.strict)


def _preview(args: argparse.Namespace) -> int:
    config = _config(args)
    say_notes(all_notes(config), make_console(stderr=True))
    for one in run_async(perf_actions.preview(config, args.count)):
        length = f"  # {one.prepared_tokens} tokens" if one.prepared_tokens else ""
        print(json.dumps(json.loads(one.body), ensure_ascii=False, indent=2) + length)
    return exits.OK


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "preview": _preview,
    "list": perf_actions.show_list,
    "watch": perf_actions.watch,
    "cancel": perf_actions.cancel,
    "show": perf_actions.show,
    "compare": perf_actions.compare,
    "datasets": perf_actions.datasets,
}
