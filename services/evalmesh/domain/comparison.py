"""What is asked of a comparison of runs."""

from dataclasses import dataclass

MOST_RUNS = 20
"""Every two of them are joined."""


@dataclass(frozen=True, slots=True)
class ComparisonWish:
    """Which part of the runs is compared, and how much is told."""

    benchmarks: tuple[str, ...] = ()
    """Empty: all that the runs have in common."""
    all_metrics: bool = False
    """Every metric, not the primary ones alone."""
    judged: frozenset[tuple[str, str, str]] = frozenset()
    """Benchmark, subset (empty: the whole) and metric (empty: the primary one) that are judged as well."""
    force: bool = False
    """Compare what may have been scored unlike, too."""
    flips: int | None = 0
    """At most so many samples that differ of each benchmark of each run; `None`: all."""
    texts: bool = False
    """Flips with their completions, which may be long."""
