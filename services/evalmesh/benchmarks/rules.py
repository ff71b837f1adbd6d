"""How the scores of a benchmark become its metrics."""

from evalmesh.benchmarks.base import Benchmark
from evalmesh.scoring.tally import MetricRule


def metric_rules(benchmark: Benchmark, repeats: int) -> tuple[MetricRule, ...]:
    """The primary one first. With repeats, the k-metrics that need no more information come along."""
    rules = [MetricRule(spec.name, spec.score, spec.kind, repeats) for spec in benchmark.metrics]
    if repeats > 1:
        primary = benchmark.metrics[0]
        rules += [
            MetricRule(f"pass@{repeats}", primary.score, "pass_at_k", repeats),
            MetricRule(f"majority@{repeats}", primary.score, "majority_at_k", repeats),
            MetricRule(f"pass^{repeats}", primary.score, "pass_hat_k", repeats),
        ]
    return tuple(rules)
