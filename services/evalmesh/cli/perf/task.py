"""`run_perf`: a load test from Python, with the arguments EvalScope users have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalmesh.cli.console import is_live, make_console
from evalmesh.cli.documents import PerfReport
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.outcome import PerfOutcome
from evalmesh.cli.perf.run import run_load_test
from evalmesh.cli.platform.session import run_blocking
from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.state import State
from evalmesh.wire.errors import error_class

PerfSource = PerfConfig | Mapping[str, Any] | str | Path


def run_perf(config: PerfSource) -> PerfReport:
    """Puts an endpoint under load and returns `perf.json` (docs/perf-schema.md); blocks, also beside a running loop.

    Args:
        config: A `PerfConfig`, a mapping with its keys, or the path of a YAML or JSON file with them.

    Raises:
        EvalmeshError: What is wrong with the config, or why the load test failed. Requests that failed are no error:
            the document counts and names them.
    """
    work = run_load_test(PerfConfig.of(config), make_console(stderr=True), live=is_live())
    return _perf(run_blocking(work))


def _perf(outcome: PerfOutcome) -> PerfReport:
    test = outcome.load_test
    if test.state is State.FAILED:
        raise error_class(test.error_reason)(test.error, {"load_test": test.id, "folder": str(outcome.folder)})
    if outcome.perf is None:
        raise FailedPrecondition(
            f"{test.id} ended as {test.state.value} before there was a report.", {"load_test": test.id}
        )
    return PerfReport(outcome.perf, outcome.folder)
