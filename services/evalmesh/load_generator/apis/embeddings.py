"""OpenAI's embeddings: texts in, vectors out, in one piece."""

from array import array
from typing import Any

import msgspec

from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body
from evalmesh.load_generator.apis.openai import UNREADABLE, UsageBody, note_error, note_unreadable


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    """Numbers or base64; nobody reads them here."""


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector] | None = None
    usage: UsageBody | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingsReader(Reader):
    """The answer is there as a whole or not at all; it has input tokens and no output tokens."""

    __slots__ = ()
    generates = False

    def event(self, data: bytes, at_s: float) -> None:
        """A server that streams embeddings sends the whole answer as one event."""
        if data != b"[DONE]":
            self.whole(data, at_s)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            answer = _decode(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        if answer.data is None:
            if not note_error(self, body):
                self.fail(Outcome.MALFORMED, "The answer has no `data`.")
            return
        self.finished = True
        if answer.data:
            self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
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
