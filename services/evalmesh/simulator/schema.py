"""The OpenAI-compatible bodies: what is read of requests, and the bytes of answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.logprobs import ScoredToken, completion_logprobs, prompt_logprobs
from evalmesh.simulator.tokens import tokenize
from evalmesh.simulator.tools import Call, demanded

_encode = msgspec.json.Encoder().encode
_REPEATED_CHARS = 4000
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
Prompts = str | list[str | int | list[int]]
"""One prompt or several, as text or as token ids."""
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """vLLM's: usage so far in every chunk."""


class ChatMessage(msgspec.Struct):
    """One turn; content is text, or parts of which those with text count."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """All text of the turn."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part["text"]) for part in self.content or () if part.get("type") in _TEXT_PARTS)

    @property
    def n_images(self) -> int:
        """Parts with an image; the simulated model does not look at them."""
        parts = () if isinstance(self.content, str) else self.content or ()
        return sum(part.get("type") in _IMAGE_PARTS for part in parts)


class GenerationBody(msgspec.Struct):
    """What both endpoints share; other keys are allowed and ignored, as real servers do."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    ignore_eos: bool | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings that are not empty."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in given if stop)

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_usage_always(self) -> bool:
        """Whether every chunk says how much was used so far."""
        options = self.stream_options
        return bool(options and options.include_usage and options.continuous_usage_stats)


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage] = []
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    prompt_logprobs: int | None = None
    """vLLM's."""


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    prompt: Prompts = ""
    """Token ids stand for words: as many tokens as there are numbers."""
    echo: bool | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    """vLLM's."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Each prompt as text."""
        return texts_of(self.prompt)

    @property
    def is_list(self) -> bool:
        """Whether there may be several prompts."""
        return isinstance(self.prompt, list) and not (self.prompt and isinstance(self.prompt[0], int))


def texts_of(prompt: Prompts) -> tuple[str, ...]:
    """One text per prompt; token ids become words."""
    if isinstance(prompt, str):
        return (prompt,)
    if prompt and isinstance(prompt[0], int):
        return (" ".join(map(str, prompt)),)
    return tuple(" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in prompt)


_chat_decoder = msgspec.json.Decoder(ChatBody)
_completion_decoder = msgspec.json.Decoder(CompletionBody)


def read_chat(body: bytes) -> ChatBody:
    """Raises `InvalidInput` with the sentence the client gets."""
    try:
        chat = _chat_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if not chat.messages:
        raise InvalidInput("The field messages is empty; send at least one message.", {"field": "messages"})
    demanded(chat.tools or (), chat.tool_choice)
    if chat.stream and chat.prompt_logprobs is not None:
        raise InvalidInput("prompt_logprobs are not available when stream is true.", {"field": "stream"})
    check_common(chat)
    return chat


def read_completion(body: bytes) -> CompletionBody:
    """Raises `InvalidInput` with the sentence the client gets."""
    try:
        completion = _completion_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if completion.prompt == []:
        raise InvalidInput("The field prompt is an empty list; send at least one prompt.", {"field": "prompt"})
    if completion.stream and (
        completion.is_list or completion.echo or completion.logprobs or completion.prompt_logprobs
    ):
        raise InvalidInput("The simulator streams one prompt without echo and logprobs.", {"field": "stream"})
    check_common(completion)
    return completion


class TokenizeBody(msgspec.Struct):
    """`POST /tokenize`, as vLLM has it: a prompt or a chat."""

    model: str = ""
    prompt: str | None = None
    messages: list[ChatMessage] | None = None


def read_tokenize(data: bytes) -> str | list[ChatMessage]:
    """The prompt, or the turns of the chat. Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = msgspec.json.decode(data, type=TokenizeBody)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    found = body.prompt if body.messages is None else body.messages
    if found is None:
        raise InvalidInput("There is nothing to tokenize; send a prompt or messages.", {"field": "prompt"})
    return found


def check_common(body: GenerationBody) -> None:
    """Raises `InvalidInput` for what no endpoint takes."""
    if body.n is not None and body.n != 1:
        raise InvalidInput(f"The simulator gives one choice per request, n={body.n} is not supported.", {"field": "n"})
    if body.max_tokens is not None and body.max_tokens < 0:
        raise InvalidInput(f"The field max_tokens is {body.max_tokens}; it cannot be negative.")


@dataclass(frozen=True, slots=True)
class Head:
    """What every body and chunk of one answer repeats."""

    id: str
    created: int
    model: str
    is_chat: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        """The `usage` object."""
        body: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.reasoning_tokens:
            body["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        if self.cached_tokens:
            body["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        return body


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer, as it goes out."""

    text: str
    finish_reason: str | None
    reasoning: str = ""
    logprobs: list[ScoredToken] | None = None
    top_logprobs: int = 0
    calls: tuple[Call, ...] = ()
    prompt_logprobs: list[ScoredToken] | None = None


def full_body(head: Head, choices: Sequence[Choice], usage: Usage | None) -> bytes:
    """The answer in one piece."""
    body: dict[str, Any] = {
        "id": head.id,
        "object": "chat.completion" if head.is_chat else "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [_choice(head, index, choice) for index, choice in enumerate(choices)],
    }
    if usage is not None:
        body["usage"] = usage.as_json()
    if head.is_chat and choices[0].prompt_logprobs is not None:
        body["prompt_logprobs"] = prompt_logprobs(choices[0].prompt_logprobs)
    return _encode(body)


def _choice(head: Head, index: int, choice: Choice) -> dict[str, Any]:
    body: dict[str, Any] = {"index": index}
    if head.is_chat:
        body["message"] = {"role": "assistant", "content": choice.text}
        if choice.calls:
            body["message"] |= {"content": choice.text or None, "tool_calls": [one.as_json() for one in choice.calls]}
        if choice.reasoning:
            body["message"]["reasoning_content"] = choice.reasoning
    else:
        body["text"] = choice.text
        if choice.prompt_logprobs is not None:
            body["prompt_logprobs"] = prompt_logprobs(choice.prompt_logprobs)
    tokens = choice.logprobs
    body["logprobs"] = None if tokens is None else completion_logprobs(tokens, choice.top_logprobs)
    body["finish_reason"] = choice.finish_reason
    return body


Content = tuple[bytes, int]
"""An event, and how many tokens it carries."""


class ChunkWriter:
    """Builds the server-sent events of one streamed answer; what repeats is encoded once."""

    def __init__(self, head: Head, *, with_usage: bool, prompt_tokens: int | None = None) -> None:
        """`prompt_tokens` is given when every chunk is to tell the usage so far."""
        self._is_chat = head.is_chat
        self._prompt_tokens = prompt_tokens
        self._n_tokens = 0
        kind = "chat.completion.chunk" if head.is_chat else "text_completion"
        common = _encode({"id": head.id, "object": kind, "created": head.created, "model": head.model})
        usage = b'"usage":null,' if with_usage and prompt_tokens is None else b""
        self._plain = b"data: " + common[:-1] + b","
        self._common = self._plain + usage

    def role(self) -> bytes:
        """The first chunk of a chat."""
        return self._event(_choice_of(b'{"role":"assistant","content":""}', b"null", is_chat=True))

    def contents(self, text: str, size: int, *, is_reasoning: bool = False) -> list[Content]:
        """Chunks of `size` tokens each."""
        make = _deltas if len(text) <= _REPEATED_CHARS else _deltas.__wrapped__
        deltas = make(text, size, self._is_chat, is_reasoning)
        if self._prompt_tokens is not None:
            return [(self._counted(delta, n_tokens), n_tokens) for delta, n_tokens in deltas]
        common = self._common
        return [(common + delta, n_tokens) for delta, n_tokens in deltas]

    def calls(self, calls: Sequence[Call], size: int) -> list[Content]:
        """Chunks of calls: the name first, then the arguments, `size` tokens each."""
        found: list[Content] = []
        for index, call in enumerate(calls):
            begin = call.as_json() | {"index": index, "function": {"name": call.name, "arguments": ""}}
            told = [(begin, 1)]
            told += [({"index": index, "function": {"arguments": text}}, n) for text, n in pieces(call.arguments, size)]
            for piece, n_tokens in told:
                delta = _choice_of(_encode({"tool_calls": [piece]}), b"null", is_chat=True)
                found.append(
                    (self._common + delta if self._prompt_tokens is None else self._counted(delta, n_tokens), n_tokens)
                )
        return found

    def finish(self, reason: str | None) -> bytes:
        """The chunk that says why the answer ended."""
        return self._event(_choice_of(b"{}" if self._is_chat else b'""', _encode(reason), is_chat=self._is_chat))

    def usage(self, usage: Usage) -> bytes:
        """The chunk with token counts and no choices."""
        return self._plain + b'"choices":[],"usage":' + _encode(usage.as_json()) + b"}\n\n"

    def _event(self, choice: bytes) -> bytes:
        return self._common + choice if self._prompt_tokens is None else self._counted(choice, 0)

    def _counted(self, choice: bytes, n_tokens: int) -> bytes:
        self._n_tokens += n_tokens
        usage = _encode(Usage(self._prompt_tokens or 0, self._n_tokens).as_json())
        return self._common + b'"usage":' + usage + b"," + choice


def _choice_of(delta: bytes, reason: bytes, *, is_chat: bool) -> bytes:
    key = b'"delta":' if is_chat else b'"text":'
    return b'"choices":[{"index":0,' + key + delta + b',"logprobs":null,"finish_reason":' + reason + b"}]}\n\n"


@lru_cache(maxsize=128)
def _deltas(text: str, size: int, is_chat: bool, is_reasoning: bool) -> tuple[Content, ...]:  # noqa: FBT001 - a key
    """What chunks have after their common beginning. Under load the same few texts come again and again."""
    key = b'{"reasoning_content":' if is_reasoning else b'{"content":'
    found = []
    for piece, n_tokens in pieces(text, size):
        encoded = _encode(piece)
        delta = key + encoded + b"}" if is_chat else encoded
        found.append((_choice_of(delta, b"null", is_chat=is_chat), n_tokens))
    return tuple(found)


def pieces(text: str, size: int) -> list[tuple[str, int]]:
    """A text in pieces of `size` tokens, the last of which may be smaller, with their counts."""
    tokens = tokenize(text)
    if size == 1:
        return [(token, 1) for token in tokens]
    return [
        ("".join(tokens[start : start + size]), min(size, len(tokens) - start)) for start in range(0, len(tokens), size)
    ]


DONE = b"data: [DONE]\n\n"


def error_body(message: str, kind: str, code: str | None = None) -> bytes:
    """An error in the shape OpenAI clients parse."""
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def json_body(value: Any) -> bytes:
    """Any other body."""
    return _encode(value)


def models_body(names: Sequence[str], created: int) -> bytes:
    """`GET /v1/models`."""
    models = [{"id": name, "object": "model", "created": created, "owned_by": "evalmesh"} for name in names]
    return _encode({"object": "list", "data": models})
