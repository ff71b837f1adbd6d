"""`evalmesh eval`."""

import argparse
import sys
from dataclasses import replace

import yaml

from evalmesh.cli import exits
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.evaluate import evaluate, validate
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.exports import again_command, check_sinks, options_of, send
from evalmesh.cli.plain import plain
from evalmesh.cli.platform.session import run_async

_NOT_CONFIG = frozenset({"command", "module", "parser", "config"})


def run(args: argparse.Namespace) -> int:
    """Flags over file over defaults."""
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    config = TaskConfig.load(args.config, said)
    options = options_of(config.name, config.work_dir, config.export_args)
    check_sinks(config.export, options)
    if config.dry_run:
        spec = run_async(validate(config))
        print(yaml.safe_dump(plain(replace(spec, client_config="")), sort_keys=False, allow_unicode=True), end="")
        return exits.OK
    if config.demo:
        make_console(stderr=True).print("The model is simulated, reached over real HTTP; see --api-url for your own.")
    outcome = run_async(evaluate(config, make_console(stderr=True), live=is_live()))
    show_outcome(make_console(), outcome, work_dir=config.work_dir)
    code = outcome.exit_code(ignore_errors=config.ignore_errors)
    if outcome.report is None:
        return code
    done, errors = send(config.export, outcome.report, outcome.folder, options)
    for line in done:
        print(line)
    for sink, why in errors.items():
        again = again_command(outcome.folder / "report.json", sink, config.export_args)
        print(f"export failed: {sink}: {why}\nagain    {again}  # exports alone", file=sys.stderr)
    return code or (exits.FAILED if errors else exits.OK)
