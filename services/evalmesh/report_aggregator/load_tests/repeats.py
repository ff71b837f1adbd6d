"""Levels that were run more than once: mean and interval of each figure over the repeats."""

from collections.abc import Mapping, Sequence
from typing import Any

from evalmesh.load.measure.best import at
from evalmesh.scoring.statistics import mean_and_stderr, t_interval

Document = Mapping[str, Any]

_RATES = ("request_rate", "input_token_rate", "output_token_rate", "total_token_rate", "error_rate", "goodput.rate")
_SUMMARIES = ("ttft", "itl", "chunk_gap", "tpot", "e2e")
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
PATHS = (
    *_RATES,
    *(f"{name}_ms.{statistic}" for name in _SUMMARIES for statistic in _STATISTICS),
    *(f"{name}_due_ms.{statistic}" for name in ("ttft", "tpot", "e2e") for statistic in _STATISTICS),
)
"""Figures that are told over repeats, as paths within a level."""


def repeat_groups(levels: Sequence[Document]) -> list[dict[str, Any]]:
    """One entry per label that at least two levels have, in order of the first of them."""
    by_label: dict[str, list[Document]] = {}
    for level in levels:
        by_label.setdefault(level["label"], []).append(level)
    return [_group(members) for members in by_label.values() if len(members) > 1]


def _group(members: Sequence[Document]) -> dict[str, Any]:
    metrics = {}
    for path in PATHS:
        values = [at(level, path) for level in members]
        known = [value for value in values if value is not None]
        if known:
            metrics[path] = _over_repeats(values, known)
    first = members[0]
    return {
        "label": first["label"],
        "parallel": first["parallel"],
        "rate": first["rate"],
        "levels": [level["index"] for level in members],
        "metrics": metrics,
    }


def _over_repeats(values: Sequence[float | None], known: Sequence[float]) -> dict[str, Any]:
    mean, stderr = mean_and_stderr(known)
    return {
        "n": len(known),
        "mean": mean,
        "stderr": stderr,
        "ci95": None if stderr is None else list(t_interval(mean, stderr, len(known) - 1)),
        "values": list(values),
    }
