"""`evalmesh eval`."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.connections import told_by_environment
from evalmesh.cli.defaults import told
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.engines import told_of_kind
from evalmesh.cli.eval.evaluate import evaluate
from evalmesh.cli.eval.outcome import Outcome
from evalmesh.cli.eval.rehearsal import rehearse, text_of
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.eval.spec import key_reference
from evalmesh.cli.exports import again_command, check_sinks, options_of, send
from evalmesh.cli.platform.session import run_async

_NOT_CONFIG = frozenset({"command", "module", "parser", "config"})


def run(args: argparse.Namespace) -> int:
    """Flags over file over defaults."""
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    config = TaskConfig.load(args.config, said)
    console = make_console(stderr=True)
    files = [] if args.config else told(TaskConfig.section, TaskConfig.model_fields)
    environment = told_by_environment(config.api_url or "", key_reference(config))
    for line in (*files, *environment, *told_of_kind(dict(config))):
        console.print(line, markup=False)
    options = options_of(config.name, config.work_dir, config.export_args)
    check_sinks(config.export, options)
    if config.dry_run:
        found = run_async(rehearse(config))
        print(text_of(found, config.price, Path(config.work_dir).expanduser()), end="")
        return exits.OK
    if config.demo:
        console.print("The model is simulated, reached over real HTTP; see --api-url for your own.")
    outcome = run_async(evaluate(config, console, live=is_live()))
    show_outcome(make_console(), outcome, work_dir=config.work_dir, prices=config.price)
    code = outcome.exit_code(ignore_errors=config.ignore_errors)
    sent = _exported(config, outcome, options)
    return code or (exits.OK if sent else exits.FAILED)


def _exported(config: TaskConfig, outcome: Outcome, options: Mapping[str, Any]) -> bool:
    """Sends the scores to the sinks that were asked for; whether all of them took them."""
    if outcome.report is None:
        return True
    done, errors = send(config.export, outcome.report, outcome.folder, options)
    for line in done:
        print(line)
    for sink, why in errors.items():
        again = again_command(outcome.folder / "report.json", sink, config.export_args)
        print(f"export failed: {sink}: {why}\nagain    {again}  # exports alone", file=sys.stderr)
    return not errors
