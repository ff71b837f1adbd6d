"""Rerank: documents in, relevance scores out. Jina, vLLM and Cohere send and answer the same, but for token counts."""

from array import array
from typing import Any

import msgspec

from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body
from evalmesh.load_generator.apis.openai import UNREADABLE, Usage, note_error, note_unreadable


class _Result(msgspec.Struct, gc=False):
    relevance_score: float | None = None
    score: float | None = None
    """TEI's name for it."""


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
    usage: Usage | None = None
    meta: _Meta | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_list = msgspec.json.Decoder(list[_Result]).decode


class RerankReader(Reader):
    """The answer is there as a whole or not at all; it has input tokens and no output tokens."""

    __slots__ = ()
    generates = False

    def event(self, data: bytes, at_s: float) -> None:
        """A server that streams a ranking sends the whole answer as one event."""
        if data != b"[DONE]":
            self.whole(data, at_s)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            # TEI answers with the bare list.
            answer = _Answer(_decode_list(body)) if body.lstrip()[:1] == b"[" else _decode(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        results = answer.results
        if results is None:
            if not note_error(self, body):
                self.fail(Outcome.MALFORMED, "The answer has no `results`.")
            return
        if any(result.relevance_score is None and result.score is None for result in results):
            self.fail(Outcome.MALFORMED, "A result has no `relevance_score`.")
            return
        self.finished = True
        if results:
            self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
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
