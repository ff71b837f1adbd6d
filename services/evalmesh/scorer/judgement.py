"""Completions to scores: quickly in this process, slowly in one that may be killed."""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from numbers import Real
from typing import get_args

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import DeadlineExceeded, InternalError, InvalidInput
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score, ScoreState
from evalmesh.runtime.telemetry import span
from evalmesh.scorer.pool import CallRaisedError, KillablePool
from evalmesh.scoring.outcomes import with_outcome

_LOG = logging.getLogger(__name__)
_STATES = get_args(ScoreState)
_MOST = 1e100
"""Magnitude of a value: the squares of many must add up to what a float can hold."""
_REASON_CHARS = 500


class BadScore(Exception):
    """What a scorer returned is no score of the completion."""


def score_slowly(benchmark: str, mode: str, sample: Sample, completion: Completion) -> Score:
    """Runs in a process of the pool. Raises what the scorer raises, and `BadScore`."""
    found = registry.get(benchmark).in_mode(mode)
    return checked(found, found.shape.score(sample, completion), completion)


class Judgement:
    """Scores completions of any benchmark."""

    def __init__(self, pool: KillablePool, deadline_s: float) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._told: set[str] = set()
        """Benchmarks whose scorer has failed, which is logged once."""

    async def score_all(
        self, benchmark: Benchmark, pairs: Sequence[tuple[Sample, Completion]], remove_until: str | None = None
    ) -> list[Score]:
        """One score per pair, in order; a score always comes back, whatever completion and scorer are."""
        cut_pairs = [(sample, cut(completion, remove_until)) for sample, completion in pairs]
        scores = [self._quick(benchmark, sample, completion) for sample, completion in cut_pairs]
        slow = [place for place, score in enumerate(scores) if score is None]
        late = await asyncio.gather(*(self._slow(benchmark, *cut_pairs[place]) for place in slow))
        by_place = dict(zip(slow, late, strict=True))
        whole = (by_place[place] if score is None else score for place, score in enumerate(scores))
        triples = zip(whole, pairs, cut_pairs, strict=True)
        return [with_outcome(score, completion, seen.text) for score, (_, completion), (_, seen) in triples]

    def _quick(self, benchmark: Benchmark, sample: Sample, completion: Completion) -> Score | None:
        if completion.error is not None:
            error = completion.error
            return Score(
                sample_id=completion.sample_id,
                repeat=completion.repeat,
                state="errored",
                reason=f"{error.error_class}: {error.message}",
            )
        try:
            score = benchmark.shape.score_fast(sample, completion)
            return None if score is None else checked(benchmark, score, completion)
        except Exception as failure:  # noqa: BLE001 - a scorer may raise anything, and it costs this sample
            self._tell(benchmark, failure)
            return _unscored(completion, f"{type(failure).__name__}: {_text(failure)}")

    async def _slow(self, benchmark: Benchmark, sample: Sample, completion: Completion) -> Score:
        try:
            with span("score in a process", {"evalmesh.sample": sample.id, "evalmesh.repeat": completion.repeat}):
                score = await self._pool.run(
                    score_slowly, benchmark.name, benchmark.mode, sample, completion, deadline_s=self._deadline_s
                )
            return checked(benchmark, score, completion)
        except (DeadlineExceeded, InternalError, InvalidInput) as error:
            self._tell(benchmark, error)
            return _unscored(completion, error.message)
        except BadScore as error:
            self._tell(benchmark, error)
            return _unscored(completion, f"{type(error).__name__}: {error}")

    def _tell(self, benchmark: Benchmark, error: Exception) -> None:
        if benchmark.name in self._told:
            return
        self._told.add(benchmark.name)
        shown = error.trace if isinstance(error, CallRaisedError) else ""
        _LOG.warning(
            "the scorer of %s failed with a sample, which stays unscored; more of this is not logged: %s",
            benchmark.name,
            shown or _text(error),
            exc_info=None if isinstance(error, CallRaisedError) else error,
        )


def checked(benchmark: Benchmark, score: object, completion: Completion) -> Score:
    """The score, fit to be stored and counted. Raises `BadScore`."""
    if not isinstance(score, Score):
        raise BadScore(f"the scorer returned a {type(score).__name__} where a Score is expected")
    if (score.sample_id, score.repeat) != (completion.sample_id, completion.repeat):
        raise BadScore(
            f"the scorer was asked about {completion.request_id} and answered about {score.sample_id!r:.100}"
        )
    if score.state not in _STATES:
        raise BadScore(f"the scorer returned the state {score.state!r:.100}")
    scored = score.state == "scored"
    reason = _checked_text("reason", score.reason)
    return Score(
        completion.sample_id,
        completion.repeat,
        score.state,
        values=_values(benchmark, score.values) if scored else {},
        answer=_checked_text("answer", score.answer),
        extractor=_checked_text("extractor", score.extractor),
        explanation=_checked_text("explanation", score.explanation),
        reason=reason if scored else reason or "the scorer gave no reason",
        outcome=_checked_text("outcome", score.outcome) or "",
    )


def _checked_text(name: str, text: object) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise BadScore(f"the scorer returned a {type(text).__name__} as {name}")
    return _storable(text)


def _values(benchmark: Benchmark, values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise BadScore(f"the scorer returned a {type(values).__name__} as values")
    numbers = {name: _number(name, value) for name, value in values.items()}
    primary = benchmark.metrics[0].score
    if primary not in numbers:
        raise BadScore(f"the scorer returned no value for {primary!r}")
    return numbers


def _number(name: object, value: object) -> float:
    if not isinstance(name, str):
        raise BadScore(f"the scorer returned a value whose name is a {type(name).__name__}")
    if type(value) is float and -_MOST <= value <= _MOST:
        return value
    if not isinstance(value, Real | Decimal):
        raise BadScore(f"the value {name!r} is a {type(value).__name__}, which is no number")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number):
        raise BadScore(f"the value {name!r} is {_text(value)}, which is no number to count with")
    if abs(number) > _MOST:
        raise BadScore(f"the value {name!r} is {number:g}; {_MOST:g} is the most that can be counted with")
    return number


def _unscored(completion: Completion, reason: str) -> Score:
    return Score(completion.sample_id, completion.repeat, "unscored", reason=_storable(reason))


def _text(value: object) -> str:
    """Of an object of somebody else's making."""
    try:
        return str(value)[:_REASON_CHARS]
    except Exception:  # noqa: BLE001 - whatever that raises
        return "(it cannot be shown)"


def _storable(text: str) -> str:
    """JSON holds no half of a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def cut(completion: Completion, remove_until: str | None) -> Completion:
    """The completion without everything up to and including the last occurrence of `remove_until`."""
    if not remove_until or remove_until not in completion.text:
        return completion
    return replace(completion, text=completion.text.rsplit(remove_until, 1)[1])
