"""How an evaluation ended. Light: a look at a report loads no platform."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.__main__ import exit_code
from evalmesh.domain.run import Run, RunState

_UNREACHABLE = frozenset({"auth", "connect"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an evaluation ended."""

    run: Run
    folder: Path
    report: dict[str, Any] | None
    """`None` when the run ended before there was one."""

    def exit_code(self, *, ignore_errors: bool) -> int:
        """What the process should exit with."""
        if self.run.state is RunState.CANCELLED:
            return exits.CANCELLED
        if self.run.state is RunState.FAILED or self.report is None:
            return exits.UNAVAILABLE if exit_code(self.run.error_reason) == exits.UNAVAILABLE else exits.FAILED
        scored, lost = lost_count(self.report)
        if lost and not scored:
            kinds = {kind for benchmark in self.report["benchmarks"] for kind in benchmark["error_classes"]}
            return exits.UNAVAILABLE if kinds and kinds <= _UNREACHABLE else exits.FAILED
        return exits.PARTIAL if lost and not ignore_errors else exits.OK


def lost_count(report: Mapping[str, Any]) -> tuple[int, int]:
    """(requests with a score, requests without one), by the primary metric of each benchmark."""
    scored = lost = 0
    for benchmark in report["benchmarks"]:
        metric = next(m for m in benchmark["metrics"] if m["name"] == benchmark["primary_metric"])
        scored += metric["n_scored"]
        lost += metric["n_errored"] + metric["n_unscored"] + benchmark["n_not_run"]
    return scored, lost + len(report["benchmarks_not_reported"])


def reuse_lines(report: Mapping[str, Any]) -> list[str]:
    """Per benchmark how many answers were copied, and how many asked for."""
    lines = []
    for one in report["benchmarks"]:
        metric = next(m for m in one["metrics"] if m["name"] == one["primary_metric"])
        total = metric["n_scored"] + metric["n_errored"] + metric["n_unscored"]
        lines.append(f"{one['name']}: {one['n_reused']:,} reused, {max(total - one['n_reused'], 0):,} asked")
    return lines
