"""`run_task`: an evaluation from Python, with the configs EvalScope users have."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalmesh.cli.documents import Report
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.evaluate import Outcome, evaluate
from evalmesh.cli.eval.show import is_live, make_console
from evalmesh.cli.platform.session import run_blocking
from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.run import RunState
from evalmesh.wire.errors import error_class

ConfigSource = TaskConfig | Mapping[str, Any] | str | Path


def run_task(task: ConfigSource | Sequence[ConfigSource]) -> Report | list[Report]:
    """Evaluates and returns the report (docs/report-schema.md); blocks, also beside a running event loop.

    Args:
        task: A `TaskConfig`, a mapping, the path of a YAML or JSON file, or a list of these, run one after another.

    Returns:
        The report, or a list of reports for a list.

    Raises:
        EvalmeshError: What is wrong with the config, or why the run failed. Samples without a score are no error:
            the report counts and names them.
    """
    if isinstance(task, Sequence) and not isinstance(task, str):
        return [_one(one) for one in task]
    return _one(task)


def _one(source: ConfigSource) -> Report:
    return _report(run_blocking(evaluate(TaskConfig.of(source), make_console(stderr=True), live=is_live())))


def _report(outcome: Outcome) -> Report:
    run = outcome.run
    if run.state is RunState.FAILED:
        raise error_class(run.error_reason)(run.error, {"run": run.id, "folder": str(outcome.folder)})
    if outcome.report is None:
        raise FailedPrecondition(f"{run.id} ended as {run.state.value} before there was a report.", {"run": run.id})
    return Report(outcome.report, outcome.folder)
