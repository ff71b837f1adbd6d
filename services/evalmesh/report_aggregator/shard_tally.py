"""What one shard contributes to the report, small enough to keep for every shard."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.metric import ErroredSample
from evalmesh.domain.progress import ShardCounts
from evalmesh.domain.score import Score
from evalmesh.scoring.tally import Accumulator, MetricRule, tally_shard

_ERRORED_KEPT = 100


@dataclass(frozen=True, slots=True)
class ShardTally:
    """Stored at `layout.tally_key`; a shard with a tally is in the results."""

    subset: str
    metrics: dict[str, Accumulator]
    errored: tuple[ErroredSample, ...] = ()
    """The first 100 requests without a score."""
    counts: ShardCounts = field(default_factory=lambda: ShardCounts("", 0, 0, 0, 0, 0, 0.0))


def metric_rules(benchmark: Benchmark, repeats: int) -> tuple[MetricRule, ...]:
    """How scores become metrics. With repeats, the k-metrics that need no more information come along."""
    rules = [MetricRule(spec.name, spec.score, spec.kind, repeats) for spec in benchmark.metrics]
    if repeats > 1:
        primary = benchmark.metrics[0]
        rules += [
            MetricRule(f"pass@{repeats}", primary.score, "pass_at_k", repeats),
            MetricRule(f"majority@{repeats}", primary.score, "majority_at_k", repeats),
            MetricRule(f"pass^{repeats}", primary.score, "pass_hat_k", repeats),
        ]
    return tuple(rules)


def make_tally(
    benchmark: Benchmark, repeats: int, subset: str, place: tuple[str, int], scores: Sequence[Score]
) -> ShardTally:
    """Tallies the scores of a shard; `place` is (benchmark, shard). Scores of one sample are adjacent."""
    grouped = [list(group) for _, group in groupby(scores, key=lambda score: score.sample_id)]
    primary = benchmark.metrics[0].score
    scored = [score for score in scores if score.state == "scored"]
    failed = [score for score in scores if score.state != "scored"]
    errored = sum(score.state == "errored" for score in failed)
    return ShardTally(
        subset=subset,
        metrics=tally_shard(metric_rules(benchmark, repeats), grouped),
        errored=tuple(errored_sample(score) for score in failed[:_ERRORED_KEPT]),
        counts=ShardCounts(
            benchmark=place[0],
            shard=place[1],
            done=len(scores),
            errored=errored,
            unscored=len(failed) - errored,
            scored=len(scored),
            value_sum=sum(score.values.get(primary, 0.0) for score in scored),
        ),
    )


def errored_sample(score: Score) -> ErroredSample:
    """A score that is none, as the report names it."""
    return ErroredSample(score.sample_id, score.repeat, score.state, score.reason or "")
