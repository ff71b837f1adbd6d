"""What came back for a request, in one word, and when a score says more about a limit than about the model.

The word is the column `outcome` of the results; docs/guides/how-answers-are-read.md tells users what each one means.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from evalmesh.domain.completion import Completion
from evalmesh.domain.metric import LimitWarning, Metric
from evalmesh.domain.score import Score
from evalmesh.scoring.markup import strip_thinking

ANSWERED = "answered"
ANSWERED_CUT = "answered_cut"
"""An answer was found, although the completion ended at its token limit."""


class _Cause(NamedTuple):
    """How a reason for having no answer is told."""

    label: str
    predicate: str
    """Of "the answers"."""
    culprit: str
    """What the score is about where this is the reason for most answers that are missing."""
    advice: str


_CAUSES = {
    "refused": _Cause(
        "refused", "were refused", "the refusals", "the column `refusal` of the results has what the model said"
    ),
    "filtered": _Cause(
        "filtered",
        "were taken by a content filter",
        "the filter",
        "the endpoint's filter must let them pass",
    ),
    "cut": _Cause("cut at max_tokens", "were cut at max_tokens", "that limit", ""),
    "tool_calls": _Cause("calls of tools", "were calls of tools", "the tools", "turn off the endpoint's tools"),
    "not_found": _Cause(
        "text without an answer",
        "had text without an answer",
        "the form of the answers",
        "read some of them, and docs/guides/how-answers-are-read.md: the model may not know the form that is asked for",
    ),
    "only_thinking": _Cause(
        "only thinking",
        "were nothing but thinking",
        "the endpoint",
        "check the endpoint's reasoning parser, which took everything for thoughts, or raise max_tokens",
    ),
    "empty": _Cause(
        "empty",
        "were empty",
        "the endpoint",
        "look at the endpoint's chat template and stop sequences",
    ),
}
NO_ANSWER = tuple(_CAUSES)
"""Why no answer was found; the first that applies is the one that counts."""

SHARE_WORTH_A_WARNING = 0.1
_MOSTLY = 0.5
_MORE_TOKENS = 8192


def why_none(completion: Completion, text: str | None = None) -> str:
    """Why no answer was found in a completion: one of `NO_ANSWER`.

    Args:
        completion: As it came back.
        text: What of its text was searched, where a part of it had been dropped before.
    """
    if completion.refusal and completion.refusal.strip():
        return "refused"
    if completion.finish_reason == "content_filter":
        return "filtered"
    if completion.finish_reason == "length":
        return "cut"
    if completion.tool_calls:
        return "tool_calls"
    if strip_thinking(completion.text if text is None else text).strip():
        return "not_found"
    thought = (completion.reasoning or "").strip() or completion.text.strip()
    return "only_thinking" if thought else "empty"


def with_outcome(score: Score, completion: Completion, text: str) -> Score:
    """The score with its outcome, which stays empty for a plain answer.

    A scorer says itself that it has looked for an answer in vain (`final_answer.no_answer`). Of one that looks for
    none, only what says nothing at all and earned nothing is without an answer.
    """
    outcome = ""
    if score.state == "scored":
        earned = bool((score.answer or "").strip()) or any(score.values.values())
        if score.outcome in _CAUSES or not (earned or _says_something(completion, text)):
            outcome = why_none(completion, text)
        elif completion.finish_reason == "length" and not completion.continuations:
            outcome = ANSWERED_CUT
    return score if outcome == score.outcome else replace(score, outcome=outcome)


def _says_something(completion: Completion, text: str) -> bool:
    beside_text = completion.tool_calls or completion.media or completion.continuations or completion.embeddings
    return bool(beside_text or strip_thinking(text).strip())


def outcome_of(score: Score | None) -> str:
    """The word for a request with this score."""
    if score is None:
        return "not_run"
    return score.outcome or (ANSWERED if score.state == "scored" else score.state)


def count_outcomes(scores: Iterable[Score], into: dict[str, int]) -> None:
    """Adds what was scored, by outcome; without a score there is nothing to look for an answer in."""
    for score in scores:
        if score.state == "scored":
            word = outcome_of(score)
            into[word] = into.get(word, 0) + 1


def add_outcomes(more: Mapping[str, int], into: dict[str, int]) -> None:
    """Adds counts of other scores."""
    for word, count in more.items():
        into[word] = into.get(word, 0) + count


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """Outcomes as reports tell them."""

    answered: int
    """With an answer, `answered_cut` included."""
    answered_cut: int
    no_answer: int
    causes: Mapping[str, int]
    """`no_answer` by cause, most frequent first."""

    @classmethod
    def of(cls, outcomes: Mapping[str, int]) -> "OutcomeCounts":
        """From counts by word; words of other builds are left out."""
        causes = {word: outcomes[word] for word in NO_ANSWER if outcomes.get(word)}
        ordered = dict(sorted(causes.items(), key=lambda one: -one[1]))
        cut = outcomes.get(ANSWERED_CUT, 0)
        return cls(outcomes.get(ANSWERED, 0) + cut, cut, sum(causes.values()), ordered)

    def words(self) -> str:
        """`no answer found 12 (empty 6, cut at max_tokens 6)`; empty when there is nothing to say."""
        parts = []
        if self.no_answer:
            causes = ", ".join(f"{_CAUSES[word].label} {count:,}" for word, count in self.causes.items())
            parts.append(f"no answer found {self.no_answer:,} ({causes})")
        if self.answered_cut:
            parts.append(f"answered although cut at max_tokens {self.answered_cut:,}")
        return "; ".join(parts)


def limit_warning(
    counts: OutcomeCounts, metric: Metric, max_tokens: int | None, *, counted: int | None
) -> LimitWarning | None:
    """What must be known about a score that lacks answers; `None` where chance or the model matters more than they do.

    It is worth a warning when a limit (all causes but `not_found`, which is the model's own doing) has cost a tenth of
    the answers, or half of them are missing for whatever reason; and then only if the score with right answers in
    their place would lie above the 95 % interval: another draw of samples could change less.

    Args:
        counts: Of the whole benchmark.
        metric: The primary one.
        max_tokens: In force for it; `None` leaves it to the server.
        counted: Requests in the mean, where the metric is a mean of values in [0, 1], so that an answer in place of
            a missing one could add 1; else `None`.
    """
    total = counts.answered + counts.no_answer
    limited = counts.no_answer - counts.causes.get("not_found", 0)
    lost = counts.no_answer if counts.no_answer >= _MOSTLY * total else limited
    if not lost or lost < SHARE_WORTH_A_WARNING * total or metric.value is None:
        return None
    if counted and metric.ci95 is not None and metric.value + lost / counted <= metric.ci95[1]:
        return None
    reach = (metric.value, min(1.0, metric.value + counts.no_answer / counted)) if counted else None
    share = counts.no_answer / total
    message = f"{_missing(counts, max_tokens)}; {_consequence(counts, share, reach)}: {_advice(counts, max_tokens)}"
    return LimitWarning(counts.no_answer, share, reach, message)


def _main_causes(counts: OutcomeCounts) -> list[str]:
    """Those that matter: each has cost a quarter of the missing answers, or else the first."""
    main = [word for word, count in counts.causes.items() if 4 * count >= counts.no_answer]
    return main or list(counts.causes)[:1]


def _missing(counts: OutcomeCounts, max_tokens: int | None) -> str:
    told, others = [], counts.no_answer
    for word in _main_causes(counts):
        predicate = _CAUSES[word].predicate + (f"={max_tokens}" if word == "cut" and max_tokens else "")
        told.append(predicate if len(counts.causes) == 1 else f"{predicate} ({counts.causes[word]:,})")
        others -= counts.causes[word]
    told += [f"are missing for other reasons ({others:,})"] if others else []
    *first, last = told
    total = counts.answered + counts.no_answer
    begin = f"{counts.no_answer / total:.0%} of the answers ({counts.no_answer:,} of {total:,})"
    begin = begin if counts.answered or total == 1 else f"all {total:,} answers"
    return f"{begin} {', '.join(first)} or {last}" if first else f"{begin} {last}"


def _consequence(counts: OutcomeCounts, share: float, reach: tuple[float, float] | None) -> str:
    instead = "" if reach is None else f"with right ones in their place the score would be {reach[1]:.4f}"
    if share < _MOSTLY:
        return instead or "they count as wrong"
    most, count = next(iter(counts.causes.items()))
    culprit = _CAUSES[most].culprit if count > counts.no_answer / 2 else "what is missing"
    says = f"the score says more about {culprit} than about the model"
    return f"{says} ({instead})" if instead else says


def _advice(counts: OutcomeCounts, max_tokens: int | None) -> str:
    """What to do about the causes that matter."""
    more = max(_MORE_TOKENS, 4 * (max_tokens or 0))
    raised = f"raise max_tokens (--generation-config max_tokens={more})"
    return "; ".join(_CAUSES[word].advice or raised for word in _main_causes(counts))
