"""Loads and figures in words, alike in the live view, in tables and in messages."""

from collections.abc import Mapping

from evalmesh.domain.load_test import LoadLevel, LoadTest
from evalmesh.domain.state import State


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


def state_words(test: LoadTest) -> str:
    """The state as people take it: a load test that came to its end has not succeeded where requests failed."""
    if test.state is not State.SUCCEEDED:
        return test.state.value.lower()
    if not any(level.ok for level in test.levels):
        return "ended, no request succeeded"
    if any(level.state != "done" for level in test.levels):
        return "ended early"
    if test.spec.search is None and len(test.levels) < len(test.spec.levels) * test.spec.repeats:
        return "ended early"
    failed = any(count for level in test.levels for name, count in level.errors.items() if name not in NO_FAILURES)
    return "ended, some failed" if failed else "succeeded"


NO_FAILURES = frozenset({"unsent", "skipped"})
"""Outcomes of requests that never left the client."""


VERDICTS: Mapping[str, tuple[str, str]] = {
    "met": ("met", "green"),
    "missed": ("missed", "bold red"),
    "undecided": ("undecided", "yellow"),
    # Written before the words were one.
    "pass": ("met", "green"),
    "fail": ("missed", "bold red"),
}
"""What became of an objective, and its style on a terminal."""
