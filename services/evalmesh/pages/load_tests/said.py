"""Numbers and settings of a load test as a page says them: columns whose points align, settings without braces."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Level = Mapping[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {}, 0, 0.0, False)


def ms(value_ms: float | None) -> str:
    """Milliseconds as people read them: three digits, from ten seconds on in seconds."""
    if value_ms is None:
        return "-"
    if abs(value_ms) >= 10_000:
        return f"{value_ms / 1000:,.1f} s"
    return fixed(value_ms, 0 if abs(value_ms) >= 100 else 1 if abs(value_ms) >= 10 else 2)


def in_ms(value_ms: float | None) -> str:
    """The same with its unit."""
    shown = ms(value_ms)
    return shown if value_ms is None or shown.endswith("s") else f"{shown} ms"


def value(number: float | None, digits: int = 4) -> str:
    """A rate or count with this many digits, thousands in full."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 10 ** (digits - 1) else f"{number:.{digits}g}"


def fixed(number: float | None, decimals: int) -> str:
    """A number with so many decimals, zeros included: cells of one column then align at their points."""
    return "-" if number is None else f"{number:,.{decimals}f}"


def decimals_of(values: Iterable[float | None]) -> int:
    """Decimals of a column: three digits of its smallest value, at most two of them after the point."""
    least = min((abs(one) for one in values if one), default=0.0)
    return 0 if least >= 100 else 1 if least >= 10 else 2


def columns_decimals(levels: Sequence[Level], metrics: Sequence[str], rates: Sequence[str]) -> dict[str, int]:
    """Decimals of each column of the table of levels: by rate, and by `metric.statistic`."""
    found = {name: decimals_of(level[name] for level in levels) for name in rates}
    found["goodput"] = decimals_of((level["goodput"] or {}).get("rate") for level in levels)
    for metric in metrics:
        for statistic in ("p50", "p99"):
            found[f"{metric}.{statistic}"] = decimals_of(
                (level.get(f"{metric}_due_ms") or level[f"{metric}_ms"])[statistic] for level in levels
            )
    found["send_lag.p99"] = decimals_of(level["send_lag_ms"]["p99"] for level in levels)
    return found


def percent(share: float | None) -> str:
    """A share as percent."""
    if share is None:
        return "-"
    return "0%" if share == 0 else f"{100 * share:.3g}%"


def of(number: int, thing: str) -> str:
    """1 request, 1,200 requests."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def size(size_bytes: float) -> str:
    """Bytes in MB."""
    return f"{size_bytes / 1e6:,.0f} MB"


def setting(found: Any) -> str:
    """A setting in words: `uniform, 100 to 200 tokens`; parts that say nothing are left out."""
    if isinstance(found, Mapping):
        if {"kind", "low", "high"} <= found.keys():
            return _lengths(found)
        if found.keys() == {"metric", "statistic", "limit"}:
            return " ".join(f"{part:g}" if isinstance(part, float) else part for part in found.values() if part)
        return ", ".join(f"{name.replace('_', ' ')} {setting(one)}" for name, one in found.items() if one not in _EMPTY)
    if isinstance(found, list | tuple):
        return "; ".join(setting(one) for one in found)
    if isinstance(found, bool):
        return "yes" if found else "no"
    return f"{found:g}" if isinstance(found, float) else str(found)


def _lengths(found: Mapping[str, Any]) -> str:
    kind, low, high = found["kind"], found["low"], found["high"]
    if kind == "trace":
        return "as recorded"
    if low == high:
        return f"{low:,} tokens"
    if kind == "uniform":
        return f"uniform, {low:,} to {high:,} tokens"
    return f"{kind}, {found['mean']:g} tokens, spread {found['spread']:g}, within {low:,} to {high:,}"
