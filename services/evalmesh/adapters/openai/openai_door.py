"""The APIs that OpenAI defined: chat, completions, responses, embeddings, images; and rerank, which others added."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from evalmesh.adapters.openai.body import BodyEncoder
from evalmesh.adapters.openai.loglikelihood import scoring_ways
from evalmesh.adapters.openai.target import Target, check_extra_body
from evalmesh.adapters.openai.ways import Media, Way, cut
from evalmesh.dialect.addresses import Call
from evalmesh.dialect.answer import Answer, Fault, StreamedAnswer, parse_answer
from evalmesh.dialect.bodies import merged
from evalmesh.dialect.images import parse_images, speaks_only_bytes
from evalmesh.dialect.logprobs import read_token_logprobs
from evalmesh.dialect.pooling import parse_embeddings, parse_ranking, short_of
from evalmesh.dialect.responses import StreamedResponse, parse_response
from evalmesh.domain.needs import TEXT, Capabilities, Modality
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import ModelKind, ModelSpec

_Fields = Callable[[Request], Mapping[str, Any]]
_Parse = Callable[[bytes], Answer | Fault]
_encode = msgspec.json.Encoder().encode
_RESPONSES: frozenset[Modality] = frozenset({"text", "image"})
_IN_ONE_PIECE = Capabilities(frozenset(), streaming=False, seed=False, modalities=TEXT, logprobs=False, tools=False)
_CAPABILITIES: Mapping[ModelKind, Capabilities] = {
    # Whether images or tools are taken depends on what is served, which the address does not tell.
    "chat": Capabilities(frozenset({"chat", "loglikelihood"})),
    "completion": Capabilities(frozenset({"completion", "loglikelihood"}), modalities=TEXT, tools=False),
    "embedding": replace(_IN_ONE_PIECE, kinds=frozenset({"embedding"})),
    "rerank": replace(_IN_ONE_PIECE, kinds=frozenset({"rerank"})),
    "image": replace(_IN_ONE_PIECE, kinds=frozenset({"image"})),
}


class OpenAIDoor:
    """See `ways.Door`. Which of its calls is used follows from the model's kind, and from the address."""

    server = "an OpenAI-compatible server"

    def __init__(self, model: ModelSpec, target: Target) -> None:
        self._model = model
        self._target = target
        self._responses = target.address.call == "responses"
        self.capabilities = _CAPABILITIES[model.kind]
        if self._responses and model.kind == "chat":
            self.capabilities = Capabilities(frozenset({"chat", "loglikelihood"}), modalities=_RESPONSES)
        self._bodies = BodyEncoder(model, target)
        self._in_one_piece: Mapping[RequestKind, tuple[Call, _Fields, _Parse]] = {
            "embedding": ("embeddings", self._texts, parse_embeddings),
            "rerank": ("rerank", self._ranked, parse_ranking),
            "image": ("images", self._image, parse_images),
        }

    def ways(self, kind: RequestKind) -> Sequence[Way]:
        if kind not in self.capabilities.kinds:
            return ()
        if kind == "loglikelihood":
            return scoring_ways(self._model.name, self._target)
        if kind in self._in_one_piece:
            return (self._whole(*self._in_one_piece[kind]),)
        call: Call = "completions" if kind == "completion" else "responses" if self._responses else "chat"
        url, encode = self._target.url(call), self._bodies.encode
        if call == "responses":
            return (Way(url, encode, parse_response, StreamedResponse, _as_asked),)
        return (Way(url, encode, parse_answer, StreamedAnswer, _with_logprobs),)

    def _whole(self, call: Call, fields: _Fields, parse: _Parse) -> Way:
        return Way(self._target.url(call), partial(self._encode, fields), parse, None, self._complete)

    def _encode(
        self,
        fields: _Fields,
        request: Request,
        config: GenerationConfig,
        media: Media,
    ) -> bytes:
        del media
        check_extra_body(config.extra_body, "generation.extra_body")
        asked = {"model": self._model.name, **fields(request)}
        return _encode(merged(merged(asked, self._target.extra_body), config.extra_body))

    def _texts(self, request: Request) -> Mapping[str, Any]:
        return {"input": request.inputs or request.prompt}

    def _ranked(self, request: Request) -> Mapping[str, Any]:
        return {"query": request.prompt, "documents": request.inputs}

    def _image(self, request: Request) -> Mapping[str, Any]:
        by_bytes = {} if speaks_only_bytes(self._model.name) else {"response_format": "b64_json"}
        return {"prompt": request.prompt, "n": 1, **by_bytes}

    def _complete(self, request: Request, config: GenerationConfig, answer: Answer) -> Answer | Fault:
        if request.kind == "image":
            return answer
        asked = {**self._target.extra_body, **config.extra_body}.get("dimensions")
        return short_of(answer, len(request.texts), asked) or answer


def _with_logprobs(request: Request, config: GenerationConfig, answer: Answer) -> Answer:
    """With the log probabilities that were asked for."""
    del request
    if config.top_logprobs is not None:
        answer.top_logprobs = read_token_logprobs(answer.logprobs)
    return answer


def _as_asked(request: Request, config: GenerationConfig, answer: Answer) -> Answer:
    """Of the responses API, which has no stop sequences."""
    return cut(_with_logprobs(request, config, answer), config.stop)
