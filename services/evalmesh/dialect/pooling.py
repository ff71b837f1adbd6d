"""Embeddings and reranking: texts in, vectors or scores out, in one piece. Jina, vLLM and Cohere rank in one form."""

import base64
import binascii
import struct
from collections.abc import Mapping
from math import isfinite
from typing import Any

import msgspec

from evalmesh.dialect.answer import Answer, Fault, malformed
from evalmesh.dialect.errors import error_in
from evalmesh.dialect.loose import count_of, mapping_of, number_of
from evalmesh.dialect.shapes import UNREADABLE, Chunk, loads
from evalmesh.dialect.usage import as_domain, read_usage
from evalmesh.domain.completion import Usage

_decode = msgspec.json.Decoder().decode
_FLOAT_BYTES = 4


class Ranked(msgspec.Struct, gc=False):
    """One document's place."""

    relevance_score: object = None
    score: object = None
    """TEI's name for it."""
    index: object = None

    def __post_init__(self) -> None:
        """Raises `ValueError` without a score."""
        if self.value is None:
            raise ValueError("a result has no `relevance_score`")

    @property
    def value(self) -> float | None:
        """The score."""
        found = number_of(self.relevance_score)
        return number_of(self.score) if found is None else found


class Ranking(msgspec.Struct, gc=False):
    """The answer to a rerank request."""

    results: list[Ranked] | None = None
    usage: object = None
    meta: object = None


_decode_ranking = msgspec.json.Decoder(Ranking).decode
_decode_ranked = msgspec.json.Decoder(list[Ranked]).decode


def decode_ranking(body: bytes) -> Ranking:
    """Raises one of `UNREADABLE`."""
    # TEI answers with the bare list.
    return Ranking(_decode_ranked(body)) if body.lstrip()[:1] == b"[" else _decode_ranking(body)


def tokens_of(answer: Ranking) -> int | None:
    """Wherever the server says how many tokens it read."""
    if (counts := read_usage(answer.usage)) is not None:
        return counts.input or counts.total
    meta = mapping_of(answer.meta)
    tokens, billed = mapping_of(meta.get("tokens")), mapping_of(meta.get("billed_units"))
    # Cohere's price may be search units, of up to 100 documents each; those are no tokens.
    places = (tokens.get("input_tokens"), billed.get("input_tokens"), billed.get("total_tokens"))
    return next((found for place in places if (found := count_of(place)) is not None), None)


def parse_ranking(body: bytes) -> Answer | Fault:
    """The scores by place in `Answer.scores`, one for each result; see `ordered_scores`."""
    try:
        ranking = decode_ranking(body)
    except UNREADABLE as error:
        return malformed(error, body)
    if ranking.results is None:
        return _reported(mapping_of(_loose(body)), body) or _without("results", body)
    scores: dict[int, float] = {}
    for place, one in enumerate(ranking.results):
        at = place if one.index is None else count_of(one.index)
        if at is None or at in scores or one.value is None:
            return Fault("malformed", f"A result has the index {one.index!r}, which no other may have.")
        scores[at] = one.value
    if sorted(scores) != list(range(len(scores))):
        return Fault("malformed", f"The indices of the results are not those of the documents: {sorted(scores)[:10]}.")
    ordered = tuple(scores[at] for at in range(len(scores)))
    tokens = tokens_of(ranking)
    return Answer("", None, "stop", None if tokens is None else Usage(tokens), [], scores=ordered)


def parse_embeddings(body: bytes) -> Answer | Fault:
    """One vector per input in `Answer.embeddings`, in the order of the inputs, whether sent as numbers or base64."""
    try:
        found = mapping_of(_loose(body))
    except UNREADABLE as error:
        return malformed(error, body)
    data = found.get("data")
    if not isinstance(data, list):
        return _reported(found, body) or _without("data", body)
    vectors: dict[int, tuple[float, ...]] = {}
    for place, one in enumerate(data):
        entry = mapping_of(one)
        given = entry.get("index")
        at = place if given is None else count_of(given)
        vector = _vector(entry.get("embedding"))
        if vector is None:
            return Fault("malformed", f"The embedding at {place} is neither a list of numbers nor base64 of them.")
        if at is None or at in vectors:
            return Fault("malformed", f"An embedding has the index {given!r}, which no other may have.")
        vectors[at] = vector
    if sorted(vectors) != list(range(len(vectors))):
        return Fault("malformed", f"The indices of the embeddings are not those of the inputs: {sorted(vectors)[:10]}.")
    counts = read_usage(found.get("usage"))
    ordered = tuple(vectors[at] for at in range(len(vectors)))
    return Answer("", None, "stop", as_domain(counts), [], embeddings=ordered)


def short_of(answer: Answer, inputs: int, dimensions: object) -> Fault | None:
    """What is wrong with an answer to so many inputs; `dimensions` is what was asked for, or `None`."""
    vectors, scores = answer.embeddings, answer.scores
    have = max(len(vectors), len(scores))
    if have != inputs:
        return Fault("malformed", f"The endpoint sent {have} results for {inputs} inputs.", final=True)
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1:
        return Fault("malformed", f"The endpoint's vectors are of different lengths: {lengths[:5]}.", final=True)
    if vectors and dimensions is not None and lengths != [count_of(dimensions)]:
        said = f"The endpoint ignores dimensions={dimensions}: its vectors have {lengths[0]}; leave it out."
        return Fault("malformed", said, final=True)
    return None


def _vector(value: object) -> tuple[float, ...] | None:
    if isinstance(value, list):
        numbers = value if not (len(value) == 1 and isinstance(value[0], list)) else value[0]
        found = [number_of(one) for one in numbers]
        known = tuple(one for one in found if one is not None and isfinite(one))
        return known if known and len(known) == len(found) else None
    if not isinstance(value, str):
        return None
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data or len(data) % _FLOAT_BYTES:
        return None
    vector = struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data)
    return vector if all(map(isfinite, vector)) else None


def _loose(body: bytes) -> Any:
    try:
        return _decode(body)
    except UNREADABLE as error:
        return loads(body, error)


def _reported(found: Mapping[str, Any], body: bytes) -> Fault | None:
    """The error that stands in place of an answer."""
    said = error_in(Chunk(None, None, found.get("error")), body)
    return None if said is None else Fault("reported", said.message, said.code)


def _without(key: str, body: bytes) -> Fault:
    return Fault("malformed", f"The answer has no {key}: " + body[:200].decode("utf-8", "replace"))
