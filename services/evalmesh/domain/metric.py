"""A number over scores, with its uncertainty and its denominators."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric over one benchmark, category or subset.

    `value`, `stderr` and `ci95` are `None` when nothing was scored. Counts are of requests (samples x repeats);
    the uncertainty counts samples, since repeats of one sample are not independent.
    """

    name: str
    value: float | None
    stderr: float | None
    ci95: tuple[float, float] | None
    n_scored: int
    n_errored: int
    n_unscored: int
    bounds: tuple[float, float] | None = None
    """The value if every errored or unscored request were wrong, and if every one were right."""
    n_samples: int | None = None
    """Samples that the value is made of; `None` in records of before it was kept."""


@dataclass(frozen=True, slots=True)
class LimitWarning:
    """Why a score says little about the model."""

    n_no_answer: int
    share: float
    """Of the answers that were looked for."""
    score_range: tuple[float, float] | None
    """The score as it is, and with right answers in place of those that are missing; `None` where nobody can tell."""
    message: str
    """A sentence with the way out."""


@dataclass(frozen=True, slots=True)
class SubsetReport:
    """Metrics of one slice of a benchmark."""

    name: str
    metrics: tuple[Metric, ...]
    category: str | None = None
    outcomes: dict[str, int] = field(default_factory=dict)
    """Scored requests by outcome; empty in records of before they were counted."""


@dataclass(frozen=True, slots=True)
class ErroredSample:
    """A request without a score, named so that it can be looked at."""

    sample_id: str
    repeat: int
    state: str
    reason: str
    where: str = ""
    """File and line, for data of the user's own."""


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """Everything the report says about one benchmark."""

    name: str
    version: int
    dataset_digest: str
    primary_metric: str
    n_samples: int
    repeats: int
    metrics: tuple[Metric, ...]
    subsets: tuple[SubsetReport, ...]
    categories: tuple[SubsetReport, ...] = ()
    errored_samples: tuple[ErroredSample, ...] = ()
    """The first 100 of them; `n_errored + n_unscored` of the metrics counts all."""
    n_not_run: int = 0
    """Requests planned and never finished, in a cancelled or failed run."""
    n_not_judged: int = 0
    """Those of them that were answered: they are scored when the run goes on."""
    n_reused: int = 0
    """Completions copied from an earlier run."""
    error_classes: dict[str, int] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    """Sums over completions: input_tokens, output_tokens, and mean/percentile latency in seconds."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """As those of the subsets together."""
    warning: LimitWarning | None = None
    artefacts: dict[str, Any] = field(default_factory=dict)
    """Documents of the benchmark's reducers, by name: a heat map, a curve."""
    notes: tuple[str, ...] = ()
    """What was guessed of the user's files, for people."""
