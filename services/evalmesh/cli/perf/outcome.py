"""How a load test ended, and what the process says about it by its exit code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.__main__ import exit_code as code_of_reason
from evalmesh.cli.perf.table import failed_count
from evalmesh.cli.perf.words import VERDICTS
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.state import State

_UNREACHABLE = frozenset({"connect", "connect_timeout", "tls", "http_401", "http_403"})


@dataclass(frozen=True, slots=True)
class PerfOutcome:
    """What is left of a load test."""

    load_test: LoadTest
    folder: Path
    perf: dict[str, Any] | None
    """`None` when it ended before there was a report."""
    interrupted: bool = False
    export_errors: tuple[str, ...] = ()
    exported: tuple[str, ...] = ()
    """Where the document was sent to, in words."""
    export_again: tuple[str, ...] = ()
    """Commands that export what could not be, and nothing else."""

    def exit_code(self, *, ignore_errors: bool, strict: bool) -> int:
        """What the process should exit with; documented in `exits.PERF_HELP`."""
        if self.interrupted:
            return exits.INTERRUPTED
        state = self.load_test.state
        if state is State.CANCELLED:
            return exits.CANCELLED
        if state is not State.SUCCEEDED or self.perf is None:
            code = code_of_reason(self.load_test.error_reason)
            return exits.UNAVAILABLE if code == exits.UNAVAILABLE else exits.FAILED
        return _of_figures(self.perf, ignore_errors=ignore_errors, strict=strict) or (
            exits.FAILED if self.export_errors else exits.OK
        )


def _of_figures(perf: Mapping[str, Any], *, ignore_errors: bool, strict: bool) -> int:
    levels = perf["levels"]
    if not any(level["ok"] for level in levels):
        classes = {name for level in levels for name, count in level["errors"].items() if count}
        return exits.UNAVAILABLE if classes and classes <= _UNREACHABLE else exits.FAILED
    if any(map(_broke_off, levels)):
        return exits.FAILED
    if strict and (code := _strictly(perf)):
        return code
    return exits.PARTIAL if any(map(failed_count, levels)) and not ignore_errors else exits.OK


def _strictly(perf: Mapping[str, Any]) -> int:
    """Failures that miss the objective are the server's, whatever the client did; latencies need a client in time."""
    levels = perf["levels"]
    if any(_missed_by_failures(level) for level in levels) and perf["search"] is None:
        return exits.OBJECTIVE_MISSED
    if perf["client_limited"] or any(one["lost"] for level in levels for one in level["generators"]):
        return exits.CLIENT_LIMITED
    return {"missed": exits.OBJECTIVE_MISSED, "undecided": exits.OBJECTIVE_UNDECIDED}.get(objective(perf), exits.OK)


def _missed_by_failures(level: Mapping[str, Any]) -> bool:
    terms = level["slo"]["terms"] if level["slo"] else ()
    return any(term["metric"] == "error_rate" and term["decision"] == "missed" for term in terms)


def _broke_off(level: Mapping[str, Any]) -> bool:
    """Whether a level ended early and neither the endpoint nor a lost generator is why: no room, a row nobody can read.

    Those two are counted as failed requests.
    """
    lost = any(one["lost"] for one in level["generators"])
    return level["state"] == "failed" and not lost and not _UNREACHABLE.intersection(level["errors"])


def objective(perf: Mapping[str, Any]) -> str:
    """`met`, `missed` or `undecided`; no objective is met.

    A search met it when it has an answer, and does not know when it ended before there was one; a sweep when each of
    its levels did.
    """
    search = perf["search"]
    if search is not None:
        return "met" if search["answer"] is not None else "missed" if search["state"] == "none" else "undecided"
    decisions = [VERDICTS[level["slo"]["decision"]][0] for level in perf["levels"] if level["slo"]]
    return next((word for word in ("missed", "undecided") if word in decisions), "met")
