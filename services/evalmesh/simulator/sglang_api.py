"""SGLang's own `/generate`, as far as it tells what a given text is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.logprobs import ScoredToken, top_of
from evalmesh.simulator.schema import Choice, CompletionBody, Head, Usage
from evalmesh.simulator.tokens import token_id

_encode = msgspec.json.Encoder().encode


class _Sampling(msgspec.Struct):
    max_new_tokens: int | None = None
    stop: str | list[str] | None = None


class GenerateBody(msgspec.Struct):
    """`POST /generate`."""

    text: str | list[str] = ""
    sampling_params: _Sampling = msgspec.field(default_factory=_Sampling)
    return_logprob: bool | None = None
    logprob_start_len: int | None = None
    """Where in the prompt the told log probabilities begin; -1 or nothing: at its end."""
    top_logprobs_num: int | None = None
    model: str = ""


_decoder = msgspec.json.Decoder(GenerateBody)


def read_generate(data: bytes) -> CompletionBody:
    """The completion that such a request asks for. Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if not body.text:
        raise InvalidInput("Either text or input_ids should be provided.", {"field": "text"})
    told = bool(body.return_logprob) and body.logprob_start_len is not None and body.logprob_start_len >= 0
    return CompletionBody(
        model=body.model,
        prompt=[*body.text] if isinstance(body.text, list) else body.text,
        max_tokens=body.sampling_params.max_new_tokens,
        stop=body.sampling_params.stop,
        prompt_logprobs=(body.top_logprobs_num or 0) if told else None,
    )


@dataclass(frozen=True, slots=True)
class GenerateShape:
    """One object per text, in a list where a list was sent."""

    head: Head
    is_list: bool

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        items = [self._item(choice, usage) for choice in choices]
        return _encode(items if self.is_list else items[0])

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        return _encode({"text": choices[0].text[: len(choices[0].text) // 2]})

    def _item(self, choice: Choice, usage: Usage) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "id": self.head.id,
            "finish_reason": {"type": choice.finish_reason or "stop"},
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        if choice.prompt_logprobs is not None:
            meta["input_token_logprobs"] = [_entry(token.text, token.logprob) for token in choice.prompt_logprobs]
            meta["input_top_logprobs"] = [_tops(token) for token in choice.prompt_logprobs]
        return {"text": choice.text, "meta_info": meta}


def _entry(text: str, logprob: float | None) -> list[Any]:
    return [logprob, token_id(text), text]


def _tops(token: ScoredToken) -> list[list[Any]] | None:
    found = top_of(token)
    return None if found is None else [_entry(*max(found.items(), key=lambda one: one[1]))]
