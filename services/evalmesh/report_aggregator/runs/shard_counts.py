"""How scores count: what a shard adds to the progress of its run, and which metrics are made of them."""

from collections.abc import Sequence

from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.progress import ShardCounts
from evalmesh.domain.score import Score
from evalmesh.scoring.outcomes import count_outcomes
from evalmesh.scoring.tally import MetricRule


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


def count_scores(benchmark: Benchmark, stage: str, shard: int, scores: Sequence[Score]) -> ShardCounts:
    """What the scores of a shard add to the progress record."""
    primary = benchmark.metrics[0].score
    scored = [score for score in scores if score.state == "scored"]
    errored = sum(score.state == "errored" for score in scores)
    outcomes: dict[str, int] = {}
    count_outcomes(scored, outcomes)
    return ShardCounts(
        stage=stage,
        shard=shard,
        done=len(scores),
        errored=errored,
        unscored=len(scores) - len(scored) - errored,
        scored=len(scored),
        value_sum=sum(score.values.get(primary, 0.0) for score in scored),
        outcomes=outcomes,
    )
