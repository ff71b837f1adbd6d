"""Embeddings and reranking: answers in one piece, made of numbers that depend on the texts alone."""

import base64
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.entropy import unit
from evalmesh.simulator.schema import Choice, Prompts, Usage, texts_of
from evalmesh.simulator.settings import RerankForm

_encode = msgspec.json.Encoder().encode
_DIMENSIONS = 64


class EmbeddingsBody(msgspec.Struct):
    """`POST /v1/embeddings`."""

    model: str = ""
    input: Prompts = ""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    seed: int | None = None
    stream: Literal[False] | None = None


class RerankBody(msgspec.Struct):
    """`POST /v1/rerank` and its other addresses."""

    model: str = ""
    query: str = ""
    documents: list[str | dict[str, Any]] = []
    top_n: int | None = None
    return_documents: bool | None = None
    seed: int | None = None
    stream: Literal[False] | None = None

    @property
    def texts(self) -> list[str]:
        """The documents."""
        return [one if isinstance(one, str) else str(one.get("text", "")) for one in self.documents]


_embeddings_decoder = msgspec.json.Decoder(EmbeddingsBody)
_rerank_decoder = msgspec.json.Decoder(RerankBody)


def read_embeddings(data: bytes) -> EmbeddingsBody:
    """Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = _embeddings_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if not body.input:
        raise InvalidInput("The field input is empty; send at least one text.", {"field": "input"})
    if body.dimensions is not None and body.dimensions < 1:
        raise InvalidInput(f"The field dimensions is {body.dimensions}; an embedding has at least 1.")
    return body


def read_rerank(data: bytes) -> RerankBody:
    """Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = _rerank_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if not body.documents or not body.query:
        raise InvalidInput("A rerank request needs a query and at least one document.", {"field": "documents"})
    return body


@dataclass(frozen=True, slots=True)
class EmbeddingsShape:
    """One vector per text."""

    body: EmbeddingsBody
    is_empty: bool = False
    """No vectors at all: a fault."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        del choices
        return self._answer(1.0, {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens})

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        del choices
        return self._answer(0.5, None)

    def _answer(self, share: float, usage: dict[str, int] | None) -> bytes:
        texts = texts_of(self.body.input)
        texts = () if self.is_empty else texts[: int(len(texts) * share)]
        data = [{"object": "embedding", "index": i, "embedding": self._vector(text)} for i, text in enumerate(texts)]
        body: dict[str, Any] = {"object": "list", "model": self.body.model, "data": data}
        return _encode(body if usage is None else body | {"usage": usage})

    def _vector(self, text: str) -> list[float] | str:
        rng = random.Random(unit("embedding", text))  # noqa: S311 - reproducible simulation, no secret
        vector = [round(rng.uniform(-1.0, 1.0), 6) for _ in range(self.body.dimensions or _DIMENSIONS)]
        if self.body.encoding_format == "base64":
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        return vector


@dataclass(frozen=True, slots=True)
class RerankShape:
    """A score per document, the most relevant first."""

    id: str
    body: RerankBody
    form: RerankForm
    version: str
    """Of Cohere's API: `1` or `2`."""
    is_empty: bool = False
    """No results at all: a fault."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        del choices
        results = self._results()
        if self.form == "jina":
            used = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
            return _encode({"id": self.id, "model": self.body.model, "usage": used, "results": results})
        meta = {"api_version": {"version": self.version}, "billed_units": {"search_units": 1}}
        return _encode({"id": self.id, "results": results, "meta": meta})

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        del choices
        results = self._results()
        return _encode({"id": self.id, "results": results[: len(results) // 2]})

    def _results(self) -> list[dict[str, Any]]:
        body = self.body
        wants_texts = self.form == "jina" if body.return_documents is None else body.return_documents
        results: list[dict[str, Any]] = []
        for index, text in enumerate(() if self.is_empty else body.texts):
            one: dict[str, Any] = {"index": index, "relevance_score": round(unit("rerank", body.query, text), 6)}
            results.append(one | {"document": {"text": text}} if wants_texts else one)
        results.sort(key=lambda one: -one["relevance_score"])
        return results[: body.top_n] if body.top_n else results
