"""`run_task`: an evaluation from Python, with the configs EvalScope users have."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from evalmesh.cli.documents import Report
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.evaluate import evaluate
from evalmesh.cli.eval.outcome import Outcome
from evalmesh.cli.eval.show import is_live, make_console
from evalmesh.cli.live import heard_by
from evalmesh.cli.platform.session import run_blocking
from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.run import Run, RunState
from evalmesh.wire.errors import error_class

ConfigSource = TaskConfig | Mapping[str, Any] | str | Path
Listener = Callable[[Run], None]


@overload
def run_task(  # type: ignore[overload-overlap]  # a text is a sequence of texts, and names a file here
    task: ConfigSource, *, quiet: bool = False, on_progress: Listener | None = None
) -> Report: ...
@overload
def run_task(
    task: Sequence[ConfigSource], *, quiet: bool = False, on_progress: Listener | None = None
) -> list[Report]: ...
def run_task(
    task: ConfigSource | Sequence[ConfigSource], *, quiet: bool = False, on_progress: Listener | None = None
) -> Report | list[Report]:
    """Evaluates and returns the report (docs/report-schema.md); blocks, also beside a running event loop.

    Args:
        task: A `TaskConfig`, a mapping, the path of a YAML or JSON file, or a list of these, run one after another.
        quiet: Show no progress and say nothing; what is wrong is raised all the same.
        on_progress: Called with each new state of the run, some ten a second at most. Beside a running loop it is
            called from another thread; what it raises ends the watching, and the run can be resumed.

    Returns:
        The report, or a list of reports for a list.

    Raises:
        EvalmeshError: What is wrong with the config, or why the run failed. Samples without a score are no error:
            the report counts and names them.
    """
    with heard_by(on_progress):
        if isinstance(task, Sequence) and not isinstance(task, str):
            return [_one(one, quiet=quiet) for one in task]
        return _one(task, quiet=quiet)


def _one(source: ConfigSource, *, quiet: bool) -> Report:
    console = make_console(stderr=True, quiet=quiet)
    return _report(run_blocking(evaluate(TaskConfig.of(source), console, live=is_live() and not quiet)))


def _report(outcome: Outcome) -> Report:
    run = outcome.run
    if run.state is RunState.FAILED:
        raise error_class(run.error_reason)(run.error, {"run": run.id, "folder": str(outcome.folder)})
    if outcome.report is None:
        raise FailedPrecondition(f"{run.id} ended as {run.state.value} before there was a report.", {"run": run.id})
    return Report(outcome.report, outcome.folder)
