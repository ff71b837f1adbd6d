"""Two load tests, level by level: what changed, by how much, and whether that is more than chance and matters. Pure.

Levels are paired by their label (equal load). Many figures are told and few are judged: the headline figures
(`_judged_paths`), and all of them, over all levels, are one family. `better` and `worse` stand at 5 % after Holm's
correction (S. Holm, Scandinavian J. of Statistics 6, 1979), which holds whatever the figures and levels have to do with
each other, and against a difference of `tolerance`, not of nothing: what is tested is that the change is larger. `no
difference` needs an interval that lies within the tolerance; all else is `undecided`.

Times and rates are compared as logarithms, shares as they are. A figure's interval is seldom symmetric, so the ends
that face each other are what counts: the interval of the difference ends `sqrt(below_b^2 + above_a^2)` below it (MOVER:
G. Y. Zou, A. Donner, Statistics in Medicine 27, 2008). Where a side has repeats, its figure is the mean over them and
its uncertainty is that between them; a single run beside repeats is taken to vary as they do. Where both sides are
single runs nothing tells what differs from run to run: up to `ONE_RUN` is put down to that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.load.measure.best import TOLERANCE, at, interval_at
from evalmesh.load.measure.distributions import number, pair
from evalmesh.load.measure.intervals import BATCHES
from evalmesh.scoring.statistics import holm, mean_and_stderr, t_quantile, t_tails

Document = Mapping[str, Any]
Judgement = Literal["better", "worse", "no difference", "undecided"]
ONE_RUN = 0.10
"""What a single run of a server may differ from its next one by, for want of a measure."""
_FALSE_ALARMS = 0.05
_P = 0.975
_LATENCIES = ("ttft_ms", "ttft_due_ms", "itl_ms", "chunk_gap_ms", "tpot_ms", "tpot_due_ms", "e2e_ms", "e2e_due_ms")
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_SHARES = frozenset({"error_rate", "goodput.share"})
_MOST_ERRORS = 0.01
"""A tolerance for error rates, in points: they are small."""
_HIGHER = ("request_rate", "input_token_rate", "output_token_rate", "total_token_rate", "goodput.rate", "goodput.share")
_LOWER = ("error_rate", *(f"{name}.{statistic}" for name in _LATENCIES for statistic in _STATISTICS))
_LEAST_EFFECTIVE = 40
"""Effective requests of a level before it is judged by them alone: with fewer, not even their number is known well."""
_APART = 0.5
"""Points by which the failures of few requests lie apart."""
_STRAYED = 1.25
"""So that of equal servers whose requests are late together 1 pair of 30 at most lies apart."""
_ROUNDED = 1e-6
"""Documents hold seven digits: what is nearer is equal."""
_MOST_LOG = 700.0


def compare(a: Document, b: Document, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """What changed from A to B, both a `perf.json`.

    Args:
        a: What is compared against.
        b: What is judged.
        tolerance: The smallest difference that matters, as a share (of shares: in points, and of failures 1 at most).

    Returns:
        `{a, b, warnings, tolerance, one_run, judged, verdict, levels: [{label, a, b, metrics: [{metric, unit, a, b,
        difference, ratio, difference_ci95, ratio_ci95, p_value, verdict, differs_within_runs}]}], only_in_a,
        only_in_b}`. `verdict` is B's, of headline figures, and `None` for others, like `p_value`, which is corrected
        for all `judged` figures. `differs_within_runs`: an undecided difference that is certain for these very runs.
        The `verdict` of the whole is the worst one. Intervals hold for each figure alone.

    Raises:
        InvalidInput: The schema versions are unequal.
    """
    if a.get("schema_version") != b.get("schema_version"):
        raise InvalidInput(
            f"These load tests have the schema versions {a.get('schema_version')} and {b.get('schema_version')} and "
            "cannot be compared. Run the older one again with this version of evalmesh."
        )
    ours, theirs = _by_label(a["levels"]), _by_label(b["levels"])
    both = [label for label in ours if label in theirs]
    pairs = {label: _changes(ours[label], theirs[label], tolerance) for label in both}
    family = [change for changes in pairs.values() for change in changes if change.p_value is not None]
    corrected = dict(zip(map(id, family), holm([change.p_value or 0.0 for change in family]), strict=True))
    levels = [
        {
            "label": label,
            "a": [level["index"] for level in ours[label]],
            "b": [level["index"] for level in theirs[label]],
            "metrics": [_metric(change, corrected.get(id(change)), tolerance) for change in pairs[label]],
        }
        for label in both
    ]
    return {
        "a": _side(a),
        "b": _side(b),
        "warnings": _warnings(a, b, both),
        "tolerance": tolerance,
        "one_run": any(len(ours[label]) == len(theirs[label]) == 1 for label in both),
        "judged": len(family),
        "verdict": _overall([one["verdict"] for level in levels for one in level["metrics"]]),
        "levels": levels,
        "only_in_a": [label for label in ours if label not in theirs],
        "only_in_b": [label for label in theirs if label not in ours],
    }


def _overall(verdicts: Sequence[Judgement | None]) -> Judgement | None:
    """The one to act on first; `None` where nothing was judged."""
    order: tuple[Judgement, ...] = ("worse", "better", "undecided", "no difference")
    return next((one for one in order if one in verdicts), None)


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
    """A value on the scale it is compared on, and its standard errors downwards and upwards."""

    value: float
    below: float
    above: float
    df: int
    between: bool = False
    """Over repeats."""


@dataclass(frozen=True, slots=True)
class _Change:
    path: str
    a: float
    b: float
    judged: bool
    p_value: float | None
    """Of a difference beyond `margin`, uncorrected; `None` where it is not judged or cannot be."""
    interval: tuple[float, float] | None
    """Of the difference on the scale of `_Figure`."""
    one_run: bool


def _changes(ours: Sequence[Document], theirs: Sequence[Document], tolerance: float) -> list[_Change]:
    values = {path: (_values(ours, path), _values(theirs, path)) for path in (*_HIGHER, *_LOWER)}
    there = {path: both for path, both in values.items() if all(both)}
    judged = _judged_paths(there)
    one_run = len(ours) == len(theirs) == 1
    found = []
    for path, (a, b) in there.items():
        first, second = _alike(_figure(ours, path, a), _figure(theirs, path, b))
        p_value, interval = None, None
        if first is not None and second is not None:
            margin = _margin(path, max(tolerance, ONE_RUN) if one_run else tolerance)
            p_value, interval = _difference(first, second, margin)
        sure = (_enough(ours, path) and _enough(theirs, path)) or _apart(ours, theirs, path, tolerance)
        known = p_value if path in judged and sure else None
        means = math.fsum(a) / len(a), math.fsum(b) / len(b)
        found.append(_Change(path, *means, path in judged, known, interval, one_run))
    return found


def _margin(path: str, tolerance: float) -> float:
    """The smallest difference that matters, on the scale of `_Figure`."""
    if path in _SHARES:
        return min(tolerance, _MOST_ERRORS) if path == "error_rate" else tolerance
    return math.log1p(tolerance)


def _alike(a: "_Figure | None", b: "_Figure | None") -> "tuple[_Figure | None, _Figure | None]":
    """A single run beside repeats varies as they do from one to the next, if that is more than it shows itself."""
    if a is None or b is None or a.between == b.between:
        return a, b
    if b.between:
        other, one = _alike(b, a)
        return one, other
    spread = a.below * math.sqrt(a.df + 1)
    return a, replace(b, below=max(b.below, spread), above=max(b.above, spread), df=a.df)


def _enough(levels: Sequence[Document], path: str) -> bool:
    """Whether the levels can be judged; old documents, without `effective_requests`, are trusted.

    Failures are no part of the effective requests, so the share of them goes by all that ended.
    """
    window = levels[0]["window"]
    effective = window.get("effective_requests")
    if path == "error_rate":
        effective = window["ok"] + sum(window["errors"].values())
    return len(levels) > 1 or effective is None or effective >= _LEAST_EFFECTIVE


def _apart(ours: Sequence[Document], theirs: Sequence[Document], path: str, tolerance: float) -> bool:
    """Whether two runs of few requests differ by more than their requests do: how many they are worth matters not.

    Medians are apart when there lies between them, beside the tolerance, `_STRAYED` times what is between each and the
    95th percentile of its run; failures when most fail here and few there. Tails and rates have no such measure.
    """
    before, after = at(ours[0], path), at(theirs[0], path)
    if before is None or after is None:
        return False
    if path == "error_rate":
        return abs(after - before) >= _APART
    if not path.endswith(".p50") or not (before > 0 and after > 0):
        return False
    tails = [at(levels[0], f"{path[:-4]}.p95") for levels in (ours, theirs)]
    strayed = math.fsum(math.log(tail / middle) for tail, middle in zip(tails, (before, after), strict=True) if tail)
    return abs(math.log(after / before)) >= _STRAYED * strayed + _margin(path, max(tolerance, ONE_RUN))


def _judged_paths(there: Mapping[str, Any]) -> set[str]:
    """The headline figures: one rate, failures, goodput, and latencies on the one clock objectives are judged by."""
    ttft, e2e = (f"{name}_due_ms" if f"{name}_due_ms.p50" in there else f"{name}_ms" for name in ("ttft", "e2e"))
    return {
        "output_token_rate" if "output_token_rate" in there else "request_rate",
        *("error_rate", "goodput.share", "tpot_ms.p50"),
        *(f"{name}.{statistic}" for name in (ttft, e2e) for statistic in ("p50", "p99")),
    }


def _values(levels: Sequence[Document], path: str) -> list[float]:
    return [value for level in levels if (value := at(level, path)) is not None]


def _figure(levels: Sequence[Document], path: str, values: Sequence[float]) -> _Figure | None:
    """`None` where nothing says how uncertain it is."""
    if len(values) > 1:
        scaled = [_scaled(path, value) for value in values]
        if not all(map(math.isfinite, scaled)):
            return None
        mean, stderr = mean_and_stderr(scaled)
        return _Figure(mean, stderr or 0.0, stderr or 0.0, len(values) - 1, between=True)
    interval = interval_at(levels[0], path) if len(levels) == 1 else None
    value = _scaled(path, values[0])
    if interval is None or not math.isfinite(value):
        return None
    widths = t_quantile(_P, BATCHES - 1)
    low, high = (_scaled(path, end) for end in interval)
    return _Figure(value, max(0.0, value - low) / widths, max(0.0, high - value) / widths, BATCHES - 1)


def _scaled(path: str, value: float) -> float:
    if path in _SHARES:
        return value
    return math.log(value) if value > 0 else -math.inf


def _difference(a: _Figure, b: _Figure, margin: float) -> tuple[float, tuple[float, float]]:
    """Chance of a difference so large between servers that differ by the margin, and its interval."""
    difference = b.value - a.value
    down, up = math.hypot(b.below, a.above), math.hypot(b.above, a.below)
    df = _freedom(a, b)
    quantile = t_quantile(_P, df)
    interval = (difference - quantile * down, difference + quantile * up)
    facing = down if difference > 0 else up
    beyond = abs(difference) - margin
    if beyond <= _ROUNDED or math.isinf(facing):
        return 1.0, interval
    return (t_tails(beyond / facing, df) if facing else 0.0), interval


def _freedom(a: _Figure, b: _Figure) -> int:
    """Degrees of freedom of the sum of two variances (B. L. Welch, Biometrika 34, 1947)."""
    ours, theirs = (max(one.below, one.above) ** 2 for one in (a, b))
    if math.isinf(ours + theirs) or not ours + theirs:
        return min(a.df, b.df)
    return int((ours + theirs) ** 2 / (ours**2 / a.df + theirs**2 / b.df))


def _metric(change: _Change, p_value: float | None, tolerance: float) -> dict[str, Any]:
    difference, known = change.b - change.a, change.a > 0
    verdict = _verdict(change, p_value, _margin(change.path, tolerance))
    interval: tuple[float, float] | None = change.interval
    ratios = None
    if interval and change.path not in _SHARES:
        ratios = (math.exp(interval[0]), math.exp(interval[1]) if interval[1] < _MOST_LOG else math.inf)
        interval = (change.a * (ratios[0] - 1), change.a * (ratios[1] - 1))
    return {
        "metric": change.path,
        "unit": _unit(change.path),
        "a": number(change.a),
        "b": number(change.b),
        "difference": number(difference),
        "ratio": number(change.b / change.a) if known else None,
        "difference_ci95": pair(interval),
        "ratio_ci95": pair(ratios),
        "p_value": None if p_value is None else number(p_value),
        "verdict": verdict,
        "differs_within_runs": verdict == "undecided"
        and change.one_run
        and change.p_value is not None
        and _outside(change, _margin(change.path, tolerance)),
    }


def _unit(path: str) -> str:
    if path in _SHARES:
        return ""
    return "ms" if "_ms." in path else "1/s"


def _verdict(change: _Change, p_value: float | None, margin: float) -> Judgement | None:
    if not change.judged:
        return None
    if p_value is None or change.interval is None:
        return "undecided"
    low, high = change.interval
    if p_value <= _FALSE_ALARMS:
        return "better" if (low > 0) == (change.path in _HIGHER) else "worse"
    return "no difference" if -margin <= low and high <= margin else "undecided"


def _outside(change: _Change, margin: float) -> bool:
    low, high = change.interval or (0.0, 0.0)
    return abs(change.b - change.a) > 0 and (low > 0 or high < 0) and max(abs(low), abs(high)) > margin


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
