"""`evalmesh score`: completions made elsewhere through the same scorer and report."""

import argparse

from evalmesh.cli.eval.evaluate import evaluate
from evalmesh.cli.eval.show import is_live, make_console, show_outcome
from evalmesh.cli.loading import load_config
from evalmesh.cli.options import parse_options
from evalmesh.cli.platform.session import run_async

_NOT_CONFIG = frozenset({"command", "module", "parser", "dataset"})


def run(args: argparse.Namespace) -> int:
    """A run with the engine `recorded`: planned, scored and reported like any other."""
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    if "dataset_args" in said:
        given = parse_options(said["dataset_args"], "dataset_args")
        # There is one benchmark, so its name may be left out.
        said["dataset_args"] = given if args.dataset in given else {args.dataset: given}
    config = load_config({}, {**said, "datasets": [args.dataset]})
    outcome = run_async(evaluate(config, make_console(stderr=True), live=is_live()))
    show_outcome(make_console(), outcome, work_dir=config.work_dir)
    return outcome.exit_code(ignore_errors=config.ignore_errors)
