"""Request bodies. What is the same for all requests of a benchmark is serialised once."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from evalmesh.adapters.openai import loglikelihood
from evalmesh.adapters.openai.target import Target, check_extra_body
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import ModelSpec

_REMEMBERED = 256
_SAME_NAME = (
    "max_tokens",
    "temperature",
    "top_p",
    # top_k and repetition_penalty are no OpenAI fields; vLLM, SGLang and others take them at the top level.
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "reasoning_effort",
)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A body up to its prompt, and the seed that ends it."""

    config: GenerationConfig
    """Kept so that its id stays taken."""
    head: bytes
    seed: int | None


class BodyEncoder:
    """Turns requests into bytes for one model."""

    __slots__ = ("_encode", "_extra_body", "_frames", "_model")

    def __init__(self, model: ModelSpec, target: Target) -> None:
        self._model = model
        self._extra_body = target.extra_body
        self._encode = msgspec.json.Encoder().encode
        # By identity: comparing or hashing a config for every request costs more than serialising it.
        self._frames: dict[tuple[int, RequestKind], _Frame] = {}

    def encode(self, request: Request, config: GenerationConfig) -> bytes:
        """The JSON body. Raises `InvalidInput` for options that cannot be sent."""
        frame = self._frames.get((id(config), request.kind))
        if frame is None:
            frame = self._remember(request.kind, config)
        try:
            prompt = self._encode(_prompt(request))
        except ValueError as error:  # A lone surrogate, which UTF-8 cannot say.
            raise InvalidInput(f"The prompt of {request.id} cannot be sent as JSON: {error}") from error
        if frame.seed is None:
            return b"%b%b}" % (frame.head, prompt)
        return b'%b%b,"seed":%d}' % (frame.head, prompt, frame.seed + request.repeat)

    def _remember(self, kind: RequestKind, config: GenerationConfig) -> _Frame:
        check_extra_body(config.extra_body, "generation.extra_body")
        fields = self._fields(kind, config)
        seed = None if "seed" in fields or kind == "loglikelihood" else config.seed
        try:
            head = self._encode(fields)[:-1]
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"generation.extra_body or model.args.extra_body holds what JSON cannot say: {error}",
                {"field": "generation.extra_body"},
            ) from error
        frame = _Frame(config, head + (b',"messages":' if kind == "chat" else b',"prompt":'), seed)
        if len(self._frames) >= _REMEMBERED:
            del self._frames[next(iter(self._frames))]
        self._frames[id(config), kind] = frame
        return frame

    def _fields(self, kind: RequestKind, config: GenerationConfig) -> dict[str, object]:
        fields: dict[str, object] = {"model": self._model.name}
        if kind == "loglikelihood":
            return {**_merge(_merge(fields, self._extra_body), config.extra_body), **loglikelihood.FIELDS}
        for name in _SAME_NAME:
            if (value := getattr(config, name)) is not None:
                fields[name] = value
        if config.stop:
            fields["stop"] = config.stop
        if self._model.stream:
            fields["stream"] = True
            fields["stream_options"] = {"include_usage": True}
        # The run's own options win over those of the model.
        return _merge(_merge(fields, self._extra_body), config.extra_body)


def _prompt(request: Request) -> object:
    if request.kind == "chat":
        return request.messages
    return loglikelihood.prompts(request) if request.kind == "loglikelihood" else request.prompt


def _merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """`over` wins; mappings are merged one level deep, so that one template argument does not erase another."""
    merged = dict(base)
    for name, value in over.items():
        present = merged.get(name)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            merged[name] = {**present, **value}
        else:
            merged[name] = value
    return merged
