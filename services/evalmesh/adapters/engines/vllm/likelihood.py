"""The log probabilities of a given text out of vLLM's answers.

Each piece is asked as one prompt without its last token, and that token is what vLLM is made to say: its log
probability, taken before anything is forced, is the one wanted. So a piece may be one token longer than the context,
as it may with Transformers, and one whose scored part is a single token, such as a letter of multiple choice, needs no
log probabilities of its prompt and shares the cached prefix with its neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalmesh.adapters.engines.texts import Refused, Texts
from evalmesh.domain.completion import ContinuationScore
from evalmesh.domain.request import Request

_Position = tuple[float, bool]
"""Log probability of the token in its place, and whether no other is likelier."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that are scored, and those before them; together at most one more than the context holds."""

    before: Sequence[int]
    scored: Sequence[int]


def pieces_of(request: Request, texts: Texts, context: int) -> Iterator[list[Piece]]:
    """What each continuation is scored by. Raises `Refused` for one that is too long."""
    for before, after in request.pairs:
        if request.rolling:
            yield [Piece(*window) for window in texts.windows(after, context)]
            continue
        piece = Piece(*texts.pair(before, after))
        size = len(piece.before) + len(piece.scored)
        if size > context + 1:
            raise Refused(
                f"The prompt and a continuation have {size} tokens together, and the model holds {context} "
                "(--model-args max_length=N says otherwise)."
            )
        yield [piece] if piece.scored else []


def prompt_of(piece: Piece) -> list[int]:
    """What vLLM is given to read."""
    return [*piece.before, *piece.scored][:-1]


def options_of(piece: Piece) -> dict[str, Any]:
    """For `SamplingParams`."""
    options: dict[str, Any] = {
        "temperature": 0.0,
        "max_tokens": 1,
        "logprobs": 1,
        "allowed_token_ids": [piece.scored[-1]],
        "flat_logprobs": True,
        "detokenize": False,
        "ignore_eos": True,
    }
    if len(piece.scored) > 1:
        options["prompt_logprobs"] = 1
    return options


def positions(piece: Piece, output: Any) -> Iterator[_Position]:
    """Of the scored tokens, in their order. Raises `ValueError` when vLLM said less than was asked."""
    inner = len(piece.scored) - 1
    if inner:
        found = output.prompt_logprobs
        if found is None or len(found) < inner:
            raise ValueError("vLLM gave no log probabilities of the prompt")
        for at in range(len(found) - inner, len(found)):
            yield _position(found, at)
    last = output.outputs[0].logprobs
    if not last:
        raise ValueError("vLLM gave no log probability of the last token")
    yield _position(last, 0)


def _position(found: Any, at: int) -> _Position:
    """The token itself stands first, and the likeliest after it."""
    begin, end = found.start_indices[at], found.end_indices[at]
    values = found.logprobs[begin:end]
    return values[0], values[0] >= max(values)


def score(text: str, pieces: Sequence[Piece], outputs: Sequence[Any]) -> ContinuationScore:
    """Of a continuation, out of its pieces."""
    found = [one for piece, output in zip(pieces, outputs, strict=True) for one in positions(piece, output)]
    n_tokens = sum(len(piece.scored) for piece in pieces)
    total = sum(value for value, _ in found)
    return ContinuationScore(total, n_tokens, len(text.encode()), all(greedy for _, greedy in found))
