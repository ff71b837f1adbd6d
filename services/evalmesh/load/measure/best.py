"""Which of a load test's levels is best at what, which are as good, and which are left out. Pure, without numpy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalmesh.load.objective.slo import MOST_ERRORS

Document = Mapping[str, Any]
TOLERANCE = 0.03
"""Differences of less than this share matter to nobody, unless somebody says otherwise."""
_UNKNOWN = 0.10
"""Likewise where a figure has no interval, so that nobody knows how uncertain it is."""
_GOALS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("throughput", ("output_token_rate", "request_rate"), 1),
    ("goodput", ("goodput.rate",), 1),
    ("latency", ("e2e_ms.p50",), -1),
)
"""What a level can be best at; by the first of these paths that any level has; 1: the highest, -1: the lowest."""


def best(levels: Sequence[Document]) -> dict[str, Any]:
    """The best level for each goal, with those that are as good; `None` where there is no choice.

    Levels whose requests failed (`why_not`) are never best: what is measured of the few that succeeded is no service.
    As good is whose difference lies within the uncertainty of both intervals, or is below `TOLERANCE`. Among those the
    first named is the one of the lowest load, but for latency the one with the lowest p99.
    """
    sound = [level for level in levels if why_not(level) is None]
    choice = len({level["label"] for level in sound}) > 1
    return {name: _best(sound, paths, sign) if choice else None for name, paths, sign in _GOALS}


def why_not(level: Document) -> str | None:
    """Why a level is never best, in words; `None`: it may be."""
    if not level["ok"]:
        return "no request succeeded"
    failed = sum(level["errors"].values()) - level["cancelled"] + level["lost"]
    share = failed / max(1, failed + level["ok"])
    if share > allowed_errors(level):
        return f"{share:.2g} of its requests failed" if share < 0.001 else f"{share:.1%} of its requests failed"
    return "the load generator was the bottleneck" if level["client_limited"] else None


def allowed_errors(level: Document) -> float:
    """The share of requests that may fail: as the objective says, else `MOST_ERRORS`."""
    terms = level["slo"]["terms"] if level["slo"] else ()
    return min((float(one["limit"]) for one in terms if one["metric"] == "error_rate"), default=MOST_ERRORS)


def left_out(levels: Sequence[Document]) -> list[str]:
    """`parallel 8: 95.0% of its requests failed`, of each level that is never best, where others may be."""
    whys = {level["label"]: why for level in levels if (why := why_not(level)) is not None}
    return [f"{label}: {why}" for label, why in whys.items()]


def in_order(levels: Sequence[Document]) -> list[Document]:
    """The probes of a search by load, where they were made in the order in which it came upon them."""
    return sorted(levels, key=lambda level: (_load(level), level["repeat"], level["index"]))


def at(level: Document, path: str) -> float | None:
    """The number at a path within a level: `ttft_ms.p99`."""
    value: Any = level
    for name in path.split(".", 1):
        value = None if value is None else value.get(name)
    return None if value is None else float(value)


def interval_at(level: Document, path: str) -> Sequence[float] | None:
    """The 95 % interval of a figure, where there is one."""
    name, _, statistic = path.partition(".")
    found = level["rates_ci95"].get(name) if not statistic else (level[name] or {"ci95": {}})["ci95"].get(statistic)
    return None if found is None or None in found else found


def _best(levels: Sequence[Document], paths: Sequence[str], sign: int) -> dict[str, Any] | None:
    for path in paths:
        known = [(value, level) for level in levels if (value := at(level, path))]
        if known:
            break
    else:
        return None
    top_value, top = max(known, key=lambda one: sign * one[0])
    alike = [level for value, level in known if level is top or _alike((top_value, top), (value, level), path)]
    order = (lambda level: at(level, "e2e_ms.p99") or math.inf) if sign < 0 else _load
    first, *others = sorted(alike, key=lambda level: (order(level), level["index"]))
    labels = dict.fromkeys(level["label"] for level in others if level["label"] != first["label"])
    return {
        "index": first["index"],
        "label": first["label"],
        "metric": path,
        "value": at(first, path),
        "tied": list(labels),
    }


def _load(level: Document) -> float:
    return float(level["rate"] or level["parallel"])


def _alike(one: tuple[float, Document], other: tuple[float, Document], path: str) -> bool:
    """Whether the difference of two figures may be chance (facing ends of their intervals, squared), or is small."""
    (low, high) = sorted((one, other), key=lambda of: of[0])
    difference = high[0] - low[0]
    if difference <= TOLERANCE * high[0]:
        return True
    below, above = interval_at(high[1], path), interval_at(low[1], path)
    if below is None or above is None:
        return difference <= _UNKNOWN * high[0]
    return difference <= math.hypot(high[0] - below[0], above[1] - low[0])
