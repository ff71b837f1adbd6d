"""Log probabilities of tokens, in the forms of both APIs."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from evalmesh.dialect.loose import count_of, mapping_of, mappings_of, number_of
from evalmesh.dialect.shapes import UNREADABLE, loads
from evalmesh.domain.completion import TokenLogprob

_decode = msgspec.json.Decoder().decode


class LegacyLogprobs(NamedTuple):
    """Of the text completions API. All lists have one entry per token, and the first token's value is `None`."""

    tokens: list[str]
    values: list[float | None]
    tops: list[dict[str, float]]
    """As long as the others, or empty."""
    offsets: list[int] | None


class ScoredText(NamedTuple):
    """Tokens of one prompt, and of what was generated after it."""

    tokens: Sequence[str]
    values: Sequence[float | None]
    """In nats; `None` for the first, which nothing precedes, and where the server tells none."""
    greedy: Sequence[bool]
    """Whether each is the likeliest in its place; true where that is not told."""
    offsets: Sequence[int] | None = None


def read_legacy(raw: msgspec.Raw) -> LegacyLogprobs | None:
    """`None` where there are none, or not one for each token."""
    found = mapping_of(_value(raw))
    tokens, values = found.get("tokens"), found.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or not tokens or len(tokens) != len(values):
        return None
    if not all(isinstance(token, str) for token in tokens):
        return None
    tops, offsets = found.get("top_logprobs"), found.get("text_offset")
    if not isinstance(tops, list) or len(tops) != len(tokens):
        tops = []
    places = [count_of(place) for place in offsets] if isinstance(offsets, list) else [None]
    known = [place for place in places if place is not None]
    return LegacyLogprobs(
        tokens,
        [number_of(value) for value in values],
        [_alternatives(top) for top in tops],
        known if len(known) == len(places) else None,
    )


def read_token_logprobs(raws: Iterable[msgspec.Raw]) -> tuple[TokenLogprob, ...]:
    """Of an answer's tokens, from the `logprobs` of its choice or of all its chunks, as far as they can be read."""
    found: list[TokenLogprob] = []
    for raw in raws:
        one = mapping_of(_value(raw))
        for token in mappings_of(one.get("content")):
            text, value = token.get("token"), number_of(token.get("logprob"))
            if isinstance(text, str) and value is not None:
                top = tuple(
                    (other["token"], worth)
                    for other in mappings_of(token.get("top_logprobs"))
                    if isinstance(other.get("token"), str) and (worth := number_of(other.get("logprob"))) is not None
                )
                found.append(TokenLogprob(text, value, top))
        legacy = read_legacy(raw) if "tokens" in one else None
        if legacy is not None:
            for place, (text, value) in enumerate(zip(legacy.tokens, legacy.values, strict=True)):
                if value is not None:
                    others = legacy.tops[place] if legacy.tops else {}
                    found.append(TokenLogprob(text, value, tuple(others.items())))
    return tuple(found)


def _alternatives(top: object) -> dict[str, float]:
    return {token: value for token, given in mapping_of(top).items() if (value := number_of(given)) is not None}


def _value(raw: msgspec.Raw) -> Any:
    data = bytes(raw)
    try:
        return _decode(data)
    except UNREADABLE as error:
        try:
            return loads(data, error)
        except UNREADABLE:
            return None
