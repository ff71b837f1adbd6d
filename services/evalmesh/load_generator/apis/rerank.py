"""Rerank: documents in, relevance scores out. Jina, vLLM and Cohere send and answer the same, but for token counts."""

from typing import Any

from evalmesh.dialect.pooling import Ranking, decode_ranking, tokens_of
from evalmesh.load_generator.apis.base import Ask, LoadApi, json_body
from evalmesh.load_generator.apis.openai import OnePieceReader


class RerankReader(OnePieceReader):
    """A list of scores."""

    __slots__ = ()
    key = "results"

    def decode(self, body: bytes) -> Ranking:
        return decode_ranking(body)

    def count_in(self, answer: Ranking) -> None:
        tokens = tokens_of(answer)
        if tokens is not None:
            self.count(input_tokens=tokens)


class RerankApi(LoadApi):
    """`/v1/rerank`."""

    name = "rerank"
    path = "/rerank"

    def body(self, ask: Ask) -> bytes:
        body: dict[str, Any] = {"model": ask.model, "query": ask.query or ask.text, "documents": ask.texts}
        return json_body(ask, body)

    def reader(self) -> RerankReader:
        return RerankReader()
