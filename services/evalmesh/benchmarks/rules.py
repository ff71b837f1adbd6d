"""How the scores of a benchmark become its metrics."""

from evalmesh.benchmarks.base import Benchmark
from evalmesh.scoring.tally import AMOUNTS, MetricRule


def metric_rules(benchmark: Benchmark, repeats: int) -> tuple[MetricRule, ...]:
    """The primary one first. With repeats, the k-metrics that need no more information come along."""
    rules = [MetricRule(spec.name, spec.score, spec.kind, repeats, spec.weight) for spec in benchmark.metrics]
    primary = benchmark.metrics[0]
    if repeats > 1 and primary.kind not in AMOUNTS:
        rules += [
            MetricRule(f"pass@{repeats}", primary.score, "pass_at_k", repeats),
            MetricRule(f"majority@{repeats}", primary.score, "majority_at_k", repeats),
            MetricRule(f"pass^{repeats}", primary.score, "pass_hat_k", repeats),
        ]
    return tuple(rules)
