"""Completions to scores: quickly in this process, slowly in one that may be killed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import DeadlineExceeded, InternalError
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scorer.pool import KillablePool


def score_slowly(benchmark: str, sample: Sample, completion: Completion) -> Score:
    """Runs in a process of the pool."""
    return registry.get(benchmark).shape.score(sample, completion)


class Judgement:
    """Scores completions of any benchmark."""

    def __init__(self, pool: KillablePool, deadline_s: float) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def score_all(
        self, benchmark: Benchmark, pairs: Sequence[tuple[Sample, Completion]], remove_until: str | None = None
    ) -> list[Score]:
        """One score per pair, in order; a score always comes back, whatever the completion is."""
        cut_pairs = [(sample, cut(completion, remove_until)) for sample, completion in pairs]
        scores = [self._quick(benchmark, sample, completion) for sample, completion in cut_pairs]
        slow = [place for place, score in enumerate(scores) if score is None]
        late = await asyncio.gather(*(self._slow(benchmark, *cut_pairs[place]) for place in slow))
        by_place = dict(zip(slow, late, strict=True))
        return [by_place[place] if score is None else score for place, score in enumerate(scores)]

    def _quick(self, benchmark: Benchmark, sample: Sample, completion: Completion) -> Score | None:
        if completion.error is not None:
            error = completion.error
            return Score(
                sample_id=completion.sample_id,
                repeat=completion.repeat,
                state="errored",
                reason=f"{error.error_class}: {error.message}",
            )
        return benchmark.shape.score_fast(sample, completion)

    async def _slow(self, benchmark: Benchmark, sample: Sample, completion: Completion) -> Score:
        try:
            score: Score = await self._pool.run(
                score_slowly, benchmark.name, sample, completion, deadline_s=self._deadline_s
            )
        except (DeadlineExceeded, InternalError) as error:
            return Score(
                sample_id=completion.sample_id, repeat=completion.repeat, state="unscored", reason=error.message
            )
        return score


def cut(completion: Completion, remove_until: str | None) -> Completion:
    """The completion without everything up to and including the last occurrence of `remove_until`."""
    if not remove_until or remove_until not in completion.text:
        return completion
    return replace(completion, text=completion.text.rsplit(remove_until, 1)[1])
