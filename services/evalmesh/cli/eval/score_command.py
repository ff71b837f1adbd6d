"""`evalmesh score`: completions made elsewhere through the same scorer and report."""

import argparse

from evalmesh.cli.eval.config import TaskConfig, args_of_one
from evalmesh.cli.eval.evaluate import evaluate
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.platform.session import run_async

_NOT_CONFIG = frozenset({"command", "module", "parser", "dataset"})


def run(args: argparse.Namespace) -> int:
    """A run with the engine `recorded`: planned, scored and reported like any other."""
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    if "dataset_args" in said:
        said["dataset_args"] = args_of_one(args.dataset, args.dataset_args)
    config = TaskConfig(**{**said, "datasets": [args.dataset]})
    outcome = run_async(evaluate(config, make_console(stderr=True), live=is_live()))
    show_outcome(make_console(), outcome, work_dir=config.work_dir)
    return outcome.exit_code(ignore_errors=config.ignore_errors)
