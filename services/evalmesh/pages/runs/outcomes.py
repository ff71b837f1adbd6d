"""What a reader must know of answers that are missing, before any score."""

from collections.abc import Mapping
from typing import Any

from evalmesh.scoring.outcomes import OutcomeCounts


def banners(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(level, headline, explanation) per benchmark: red where the score says little about the model."""
    told = {warning["benchmark"]: warning["message"] for warning in report.get("warnings", ())}
    found = []
    for benchmark in report["benchmarks"]:
        if words := counts_of(benchmark).words():
            message = told.get(benchmark["name"], "")
            title = benchmark.get("title") or benchmark["name"]
            found.append(("bad" if message else "warn", f"{title}: {words}.", message))
    return found


def counts_of(part: Mapping[str, Any]) -> OutcomeCounts:
    """Of a benchmark, category or subset of a report; zeros in one of before they were counted."""
    found = part.get("outcomes") or {"answered": 0, "answered_cut": 0, "no_answer": 0, "no_answer_causes": {}}
    return OutcomeCounts(found["answered"], found["answered_cut"], found["no_answer"], found["no_answer_causes"])
