"""Counting what a run would ask, by rendering every prompt and asking nothing."""

from collections.abc import Callable
from dataclasses import replace

from evalmesh.benchmarks.samples import MalformedRow
from evalmesh.dataset_loader.planner import merge_generation
from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.run import RunSpec
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.results.dataset import RunDataset


def estimate(dataset: RunDataset, spec: RunSpec, stop: Callable[[], None]) -> BenchmarkEstimate:
    """Reads all rows that the spec wants. Memory does not grow with them.

    Args:
        dataset: Of one benchmark of the spec.
        spec: With the limit and the repeats.
        stop: Called every few rows; it raises when nobody wants the count any more.
    """
    longest = merge_generation(dataset.benchmark.generation, spec.generation).max_tokens
    found = BenchmarkEstimate(dataset.spec.name, max_tokens=longest)
    for subset in dataset.subsets:
        for row in dataset.planned(subset, stop=stop):
            found = _with(found, row, spec.repeats)
    return found


def _with(found: BenchmarkEstimate, row: PlannedSample | MalformedRow, repeats: int) -> BenchmarkEstimate:
    if isinstance(row, MalformedRow):
        return replace(found, n_malformed=found.n_malformed + 1)
    chars = sum(len(message.text) for message in row.messages) + len(row.prompt) + sum(map(len, row.followups))
    chars += max(map(len, row.continuations), default=0) + max(map(len, row.contexts), default=0)
    return replace(
        found,
        n_samples=found.n_samples + 1,
        n_requests=found.n_requests + repeats,
        prompt_chars=found.prompt_chars + repeats * chars,
        longest_chars=max(found.longest_chars, chars),
    )
