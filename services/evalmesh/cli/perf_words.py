"""Loads and figures in words, alike in the live view, in tables and in messages."""

from evalmesh.domain.load_test import LoadLevel


def level_label(level: LoadLevel, arrival: str) -> str:
    """`parallel 32`, `rate 5`, `trace`, `stages`: what perf.json calls the level."""
    if level.stages:
        return "stages"
    if arrival == "trace":
        return "trace"
    if level.rate:
        return f"rate {level.rate:g}" + (f", at most {level.parallel} in flight" if level.parallel else "")
    return f"parallel {level.parallel}"


def milliseconds(value: float | None) -> str:
    """Three digits that matter: `0.52`, `7.31`, `51.2`, `1,234`; a dash for nothing."""
    if value is None or value != value:  # noqa: PLR0124  (NaN)
        return "-"
    size = abs(value)
    return f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:,.0f}"


def per_second(value: float) -> str:
    """`19.8/s`, `1,234/s`."""
    return f"{value:,.0f}/s" if value >= 1000 else f"{value:.1f}/s" if value >= 10 else f"{value:.2f}/s"
