"""How likely given continuations are, through the legacy completions API with `echo` and `logprobs`.

All continuations of a request go as one list of prompts; the server repeats each with the log probability of every
token. One token is generated besides, for many servers refuse to generate none; it is not counted.
"""

from collections.abc import Sequence
from itertools import accumulate

from evalmesh.adapters.openai.errors import Failure
from evalmesh.dialect.answer import Answer
from evalmesh.dialect.logprobs import read_legacy
from evalmesh.dialect.shapes import ScoredChoice
from evalmesh.domain.completion import ContinuationScore
from evalmesh.domain.request import Request

FIELDS = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0.0}
"""What the request asks for beside its prompts; sampling options would mean nothing."""

_TIE = 1e-6
"""Two log probabilities this close are equal: servers round."""


def prompts(request: Request) -> list[str]:
    """One prompt per continuation, joined as they are."""
    return [before + continuation for before, continuation in request.pairs]


def read_loglikelihood(request: Request, answer: Answer) -> Answer | Failure:
    """Adds what each continuation's tokens are worth, in the order of the continuations."""
    choices = answer.choices
    if len(choices) != len(request.continuations):
        return _unusable(f"{len(choices)} choices for {len(request.continuations)} prompts")
    scores: list[ContinuationScore] = []
    for (before, continuation), choice in zip(request.pairs, choices, strict=True):
        judged = _judge(before, continuation, choice, may_begin=request.rolling)
        if isinstance(judged, str):
            return _unusable(judged)
        scores.append(judged)
    answer.text = ""
    answer.continuations = tuple(scores)
    return answer


def _judge(context: str, continuation: str, choice: ScoredChoice, *, may_begin: bool) -> ContinuationScore | str:
    """The score of one continuation, or what is missing.

    `may_begin`: whether the continuation may begin the text, so that nothing tells how likely its first token is.
    """
    found = read_legacy(choice.logprobs)
    if found is None:
        return "no logprobs of the prompt's tokens"
    tokens, values, tops = found.tokens, found.values, found.tops
    if (span := _span(context, continuation, tokens, found.offsets)) is None:
        return "tokens that do not repeat the prompt"
    total, greedy = 0.0, True
    for position in span:
        value = values[position]
        if value is None:
            if may_begin and position == 0:
                continue
            return "a token without log probability: nothing stands before it"
        total += value
        top = tops[position] if tops else None
        greedy = greedy and (not top or value >= max(top.values()) - _TIE)
    return ContinuationScore(total, len(span), len(continuation.encode()), greedy)


def _span(context: str, continuation: str, tokens: Sequence[str], offsets: Sequence[int] | None) -> range | None:
    """Positions of the tokens that hold a character of the continuation.

    Found in the tokens' own text, because some servers put a start token before the prompt and count it in their
    offsets. A token that lies across the border belongs to the continuation.
    """
    text = context + continuation
    at = "".join(tokens).find(text)
    if at >= 0:
        ends = list(accumulate(map(len, tokens)))
        starts = [0, *ends[:-1]]
    elif offsets is not None and len(offsets) == len(tokens):
        # Tokens that are parts of a character do not join to the text.
        at, starts = 0, list(offsets)
        ends = [*starts[1:], len(text) + 1]
    else:
        return None
    begin, end = at + len(context), at + len(text)
    inside = [i for i in range(len(tokens)) if ends[i] > begin and starts[i] < end]
    return range(inside[0], inside[-1] + 1) if inside else None


def _unusable(found: str) -> Failure:
    return Failure(
        "malformed",
        f"The endpoint does not give the log probabilities of a prompt (echo with logprobs): it sent {found}.",
        retryable=False,
    )
