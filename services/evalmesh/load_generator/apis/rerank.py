"""Rerank: documents in, relevance scores out. Jina, vLLM and Cohere send and answer the same, but for token counts."""

from typing import Any

import msgspec

from evalmesh.load_generator.apis.base import Ask, LoadApi, json_body
from evalmesh.load_generator.apis.openai import OnePieceReader, UsageBody


class _Result(msgspec.Struct, gc=False):
    relevance_score: float | None = None
    score: float | None = None
    """TEI's name for it."""

    def __post_init__(self) -> None:
        if self.relevance_score is None and self.score is None:
            raise ValueError("a result has no `relevance_score`")


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: float | None = None


class _Billed(msgspec.Struct, gc=False):
    input_tokens: float | None = None
    total_tokens: float | None = None
    search_units: float | None = None
    """Cohere's price, of up to 100 documents; no tokens."""


class _Meta(msgspec.Struct, gc=False):
    tokens: _Tokens | None = None
    billed_units: _Billed | None = None


class _Answer(msgspec.Struct, gc=False):
    results: list[_Result] | None = None
    usage: UsageBody | None = None
    meta: _Meta | None = None


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
            self.count(input_tokens=int(tokens))


def _tokens_of(answer: _Answer) -> float | None:
    """Wherever the server says how many tokens it read."""
    usage, meta = answer.usage, answer.meta
    if usage is not None:
        return usage.prompt_tokens or usage.total_tokens
    if meta is None:
        return None
    if meta.tokens is not None and meta.tokens.input_tokens is not None:
        return meta.tokens.input_tokens
    billed = meta.billed_units
    if billed is None:
        return None
    return billed.input_tokens if billed.input_tokens is not None else billed.total_tokens


class RerankApi(LoadApi):
    """`/v1/rerank`."""

    name = "rerank"
    path = "/rerank"

    def body(self, ask: Ask) -> bytes:
        body: dict[str, Any] = {"model": ask.model, "query": ask.query or ask.text, "documents": ask.texts}
        return json_body(ask, body)

    def reader(self) -> RerankReader:
        return RerankReader()
