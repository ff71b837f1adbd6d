"""Two load tests, level by level: what changed, by how much, and whether that is more than chance. Pure.

Levels are paired by their label (equal load). Where a side has repeats, its figure is the mean over them and its
uncertainty is that between them; else the level's own interval serves. Both become standard errors, which add up
squared: the interval of the difference is `difference +- 1.96 * sqrt(a^2 + b^2)` (two intervals may overlap and the
difference still be certain). The ratio's interval is the difference's, relative to A's value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.load.measure.distributions import number, pair
from evalmesh.scoring.statistics import mean_and_stderr, t_quantile

Document = Mapping[str, Any]
Judgement = Literal["better", "worse", "inconclusive"]
_Z95 = 1.959963984540054
_LATENCIES = ("ttft_ms", "ttft_due_ms", "itl_ms", "chunk_gap_ms", "tpot_ms", "tpot_due_ms", "e2e_ms", "e2e_due_ms")
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_HIGHER = ("request_rate", "input_token_rate", "output_token_rate", "total_token_rate", "goodput.rate", "goodput.share")
_LOWER = ("error_rate", *(f"{name}.{statistic}" for name in _LATENCIES for statistic in _STATISTICS))


def compare(a: Document, b: Document) -> dict[str, Any]:
    """What changed from A to B, both a `perf.json`.

    Returns `{a, b, warnings, levels: [{label, a, b, metrics: [{metric, unit, a, b, difference, ratio, difference_ci95,
    ratio_ci95, verdict}]}], only_in_a, only_in_b}`. `verdict` is B's: `better`, `worse`, or `inconclusive` when the
    interval of the difference includes 0 or cannot be told. Raises `InvalidInput` for unequal schema versions.
    """
    if a.get("schema_version") != b.get("schema_version"):
        raise InvalidInput(
            f"These load tests have the schema versions {a.get('schema_version')} and {b.get('schema_version')} and "
            "cannot be compared. Run the older one again with this version of evalmesh."
        )
    ours, theirs = _by_label(a["levels"]), _by_label(b["levels"])
    both = [label for label in ours if label in theirs]
    return {
        "a": _side(a),
        "b": _side(b),
        "warnings": _warnings(a, b, both),
        "levels": [_pair(label, ours[label], theirs[label]) for label in both],
        "only_in_a": [label for label in ours if label not in theirs],
        "only_in_b": [label for label in theirs if label not in ours],
    }


def _by_label(levels: Sequence[Document]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = {}
    for level in levels:
        found.setdefault(level["label"], []).append(level)
    return found


def _side(document: Document) -> dict[str, Any]:
    test, target = document["load_test"], document["target"]
    return {
        "id": test["id"],
        "display_name": test["display_name"],
        "url": target["url"],
        "model": target["model"],
        "create_time": test["create_time"],
        "evalmesh_version": document["evalmesh_version"],
    }


@dataclass(frozen=True, slots=True)
class _Figure:
    value: float
    stderr: float | None


def _pair(label: str, ours: Sequence[Document], theirs: Sequence[Document]) -> dict[str, Any]:
    metrics = []
    for path in (*_HIGHER, *_LOWER):
        a, b = _figure(ours, path), _figure(theirs, path)
        if a is not None and b is not None:
            metrics.append(_metric(path, a, b))
    return {
        "label": label,
        "a": [level["index"] for level in ours],
        "b": [level["index"] for level in theirs],
        "metrics": metrics,
    }


def _figure(levels: Sequence[Document], path: str) -> _Figure | None:
    values = [value for level in levels if (value := _at(level, path)) is not None]
    if not values:
        return None
    if len(values) == 1:
        interval = _interval(levels[0], path) if len(levels) == 1 else None
        return _Figure(values[0], None if interval is None else (interval[1] - interval[0]) / (2 * _Z95))
    mean, stderr = mean_and_stderr(values)
    # Few repeats know their own spread badly: Student's quantile in units of the normal one.
    return _Figure(mean, None if stderr is None else stderr * t_quantile(0.975, len(values) - 1) / _Z95)


def _at(level: Document, path: str) -> float | None:
    value: Any = level
    for name in path.split(".", 1):
        value = None if value is None else value.get(name)
    return None if value is None else float(value)


def _interval(level: Document, path: str) -> Sequence[float] | None:
    name, _, statistic = path.partition(".")
    if not statistic:
        found: Sequence[float] | None = level["rates_ci95"].get(name)
        return found
    return None if level[name] is None else level[name]["ci95"].get(statistic)


def _metric(path: str, a: _Figure, b: _Figure) -> dict[str, Any]:
    difference = b.value - a.value
    interval = None
    if a.stderr is not None and b.stderr is not None:
        half = _Z95 * math.hypot(a.stderr, b.stderr)
        interval = (difference - half, difference + half)
    known = a.value > 0
    ratios = (1 + interval[0] / a.value, 1 + interval[1] / a.value) if interval and known else None
    return {
        "metric": path,
        "unit": _unit(path),
        "a": number(a.value),
        "b": number(b.value),
        "difference": number(difference),
        "ratio": number(b.value / a.value) if known else None,
        "difference_ci95": pair(interval),
        "ratio_ci95": pair(ratios),
        "verdict": _judged(interval, higher_is_better=path in _HIGHER),
    }


def _unit(path: str) -> str:
    if path in {"error_rate", "goodput.share"}:
        return ""
    return "ms" if "_ms." in path else "1/s"


def _judged(interval: tuple[float, float] | None, *, higher_is_better: bool) -> Judgement:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "inconclusive"
    return "better" if (interval[0] > 0) == higher_is_better else "worse"


def _warnings(a: Document, b: Document, both: Sequence[str]) -> list[str]:
    found = [
        f"target.{name} differs: {a['target'][name]} and {b['target'][name]}."
        for name in ("model", "api", "stream")
        if a["target"][name] != b["target"][name]
    ]
    found += [
        f"{name} differ: the load tests asked for different things, see `spec.{name}` of both."
        for name in ("prompts", "arrival", "warmup", "slo", "seed")
        if _plain(a["spec"].get(name)) != _plain(b["spec"].get(name))
    ]
    for side, document in (("A", a), ("B", b)):
        limited = [level["label"] for level in document["levels"] if level["client_limited"] and level["label"] in both]
        if limited:
            labels = ", ".join(dict.fromkeys(limited))
            found.append(f"{side} was limited by its client at {labels}: differences there say nothing of the server.")
        unsteady = [
            level["label"]
            for level in document["levels"]
            if level["window"]["steady"] is False and level["label"] in both
        ]
        if unsteady:
            found.append(f"{side} reached no steady state at {', '.join(dict.fromkeys(unsteady))}.")
    if not both:
        found.append("No level has the same load on both sides: nothing can be compared.")
    return found


def _plain(value: Any) -> Any:
    """Without what says nothing about the load: what a file was called."""
    return {name: one for name, one in value.items() if name != "file_name"} if isinstance(value, Mapping) else value
