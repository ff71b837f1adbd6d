"""OpenAI's embeddings: texts in, vectors out, in one piece."""

from typing import Any

import msgspec

from evalmesh.load_generator.apis.base import Ask, LoadApi, json_body
from evalmesh.load_generator.apis.openai import OnePieceReader, UsageBody


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    """Numbers or base64; nobody reads them here."""


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector] | None = None
    usage: UsageBody | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingsReader(OnePieceReader):
    """A list of vectors."""

    __slots__ = ()
    key = "data"

    def decode(self, body: bytes) -> _Answer:
        return _decode(body)

    def count_in(self, answer: _Answer) -> None:
        usage = answer.usage
        if usage is not None:
            prompt = usage.prompt_tokens_details
            self.count(
                input_tokens=usage.prompt_tokens or usage.total_tokens or 0,
                cached_tokens=(prompt.cached_tokens if prompt is not None else None) or 0,
            )


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
