"""Rerank: documents in, relevance scores out. Jina, vLLM and Cohere send and answer the same, but for token counts."""

from typing import Any

import msgspec

from evalmesh.dialect.loose import count_of, mapping_of, number_of
from evalmesh.dialect.usage import read_usage
from evalmesh.load_generator.apis.base import Ask, LoadApi, json_body
from evalmesh.load_generator.apis.openai import OnePieceReader


class _Result(msgspec.Struct, gc=False):
    relevance_score: object = None
    score: object = None
    """TEI's name for it."""

    def __post_init__(self) -> None:
        if number_of(self.relevance_score) is None and number_of(self.score) is None:
            raise ValueError("a result has no `relevance_score`")


class _Answer(msgspec.Struct, gc=False):
    results: list[_Result] | None = None
    usage: object = None
    meta: object = None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_list = msgspec.json.Decoder(list[_Result]).decode


class RerankReader(OnePieceReader):
    """A list of scores."""

    __slots__ = ()
    key = "results"

    def decode(self, body: bytes) -> _Answer:
        # TEI answers with the bare list.
        return _Answer(_decode_list(body)) if body.lstrip()[:1] == b"[" else _decode(body)

    def count_in(self, answer: _Answer) -> None:
        tokens = _tokens_of(answer)
        if tokens is not None:
            self.count(input_tokens=tokens)


def _tokens_of(answer: _Answer) -> int | None:
    """Wherever the server says how many tokens it read."""
    if (counts := read_usage(answer.usage)) is not None:
        return counts.input or counts.total
    meta = mapping_of(answer.meta)
    tokens, billed = mapping_of(meta.get("tokens")), mapping_of(meta.get("billed_units"))
    # Cohere's price may be search units, of up to 100 documents each; those are no tokens.
    places = (tokens.get("input_tokens"), billed.get("input_tokens"), billed.get("total_tokens"))
    return next((found for place in places if (found := count_of(place)) is not None), None)


class RerankApi(LoadApi):
    """`/v1/rerank`."""

    name = "rerank"
    path = "/rerank"

    def body(self, ask: Ask) -> bytes:
        body: dict[str, Any] = {"model": ask.model, "query": ask.query or ask.text, "documents": ask.texts}
        return json_body(ask, body)

    def reader(self) -> RerankReader:
        return RerankReader()
