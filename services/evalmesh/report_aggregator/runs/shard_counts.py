"""How scores count: what a shard adds to the progress of its run."""

from collections.abc import Sequence

from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.progress import ShardCounts
from evalmesh.domain.score import Score
from evalmesh.scoring.outcomes import count_outcomes


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
