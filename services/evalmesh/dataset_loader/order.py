"""In which order shards are put on the queue. Pure."""

from collections.abc import Sequence
from fractions import Fraction

from evalmesh.domain.work import BenchmarkPlan, Shard


def interleave(plans: Sequence[BenchmarkPlan]) -> list[tuple[BenchmarkPlan, Shard]]:
    """All shards of a run: benchmarks advance side by side, shards that are expected to take long go first.

    Shard i of n of a benchmark is due at (i + 1/2) / n of the run, so that no benchmark is left for the end, where a
    single slow one would drain the pool. Within a benchmark, and between equals, the longest expected go first: what
    is started late decides when the run ends.
    """
    due: list[tuple[Fraction, int, BenchmarkPlan, Shard]] = []
    for plan in plans:
        by_cost = sorted(plan.shards, key=lambda shard: (-expected_cost(plan, shard), shard.index))
        for place, shard in enumerate(by_cost):
            due.append((Fraction(2 * place + 1, 2 * len(by_cost)), -expected_cost(plan, shard), plan, shard))
    due.sort(key=lambda entry: (entry[0], entry[1], entry[2].name, entry[3].index))
    return [(plan, shard) for _, _, plan, shard in due]


def expected_cost(plan: BenchmarkPlan, shard: Shard) -> int:
    """What a shard is expected to take, in tokens to generate at the most."""
    return shard.requests * (plan.generation.max_tokens or 1024)
