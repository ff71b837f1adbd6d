"""`evalmesh eval`."""

import argparse
from dataclasses import replace

import yaml

from evalmesh.cli import exits
from evalmesh.cli.connections import told_by_environment
from evalmesh.cli.defaults import told
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.evaluate import evaluate, validate
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.eval.spec import key_reference
from evalmesh.cli.plain import plain
from evalmesh.cli.platform.session import run_async

_NOT_CONFIG = frozenset({"command", "module", "parser", "config"})


def run(args: argparse.Namespace) -> int:
    """Flags over file over defaults."""
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    config = TaskConfig.load(args.config, said)
    console = make_console(stderr=True)
    files = [] if args.config else told(TaskConfig.section, TaskConfig.model_fields)
    for line in (*files, *told_by_environment(config.api_url or "", key_reference(config))):
        console.print(line, markup=False)
    if config.dry_run:
        with told_in_keys(config.datasets):
            spec = run_async(validate(config))
        print(yaml.safe_dump(plain(replace(spec, client_config="")), sort_keys=False, allow_unicode=True), end="")
        return exits.OK
    if config.demo:
        console.print("The model is simulated, reached over real HTTP; see --api-url for your own.")
    outcome = run_async(evaluate(config, console, live=is_live()))
    show_outcome(make_console(), outcome, work_dir=config.work_dir)
    return outcome.exit_code(ignore_errors=config.ignore_errors)
