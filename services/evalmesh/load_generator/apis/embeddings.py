"""OpenAI's embeddings: texts in, vectors out, in one piece."""

from typing import Any

import msgspec

from evalmesh.dialect.usage import read_usage
from evalmesh.load_generator.apis.base import Ask, LoadApi, json_body
from evalmesh.load_generator.apis.openai import OnePieceReader


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    """Numbers or base64; nobody reads them here."""


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector] | None = None
    usage: object = None


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingsReader(OnePieceReader):
    """A list of vectors."""

    __slots__ = ()
    key = "data"

    def decode(self, body: bytes) -> _Answer:
        return _decode(body)

    def count_in(self, answer: _Answer) -> None:
        counts = read_usage(answer.usage)
        if counts is not None:
            self.count(input_tokens=counts.input or counts.total or 0, cached_tokens=counts.cached or 0)


class EmbeddingsApi(LoadApi):
    """`/v1/embeddings`."""

    name = "embeddings"
    path = "/embeddings"

    def body(self, ask: Ask) -> bytes:
        given: object = ask.text
        if ask.token_ids is not None:
            given = ask.token_ids
        elif ask.texts:
            given = ask.texts
        body: dict[str, Any] = {"model": ask.model, "input": given}
        return json_body(ask, body)

    def reader(self) -> EmbeddingsReader:
        return EmbeddingsReader()
