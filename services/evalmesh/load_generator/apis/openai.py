"""What the APIs that OpenAI defined have in common: token counts and errors."""

from abc import abstractmethod
from array import array
from typing import Any, ClassVar

import msgspec

from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Reader, sane

decode_any = msgspec.json.Decoder().decode
DONE = b"[DONE]"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are not what they should be."""
GZIP = b"\x1f\x8b"
COMPRESSED = "a compressed body, although Accept-Encoding says identity"


class OutputDetails(msgspec.Struct, gc=False):
    """`completion_tokens_details`, `output_tokens_details`."""

    reasoning_tokens: int | None = None


class InputDetails(msgspec.Struct, gc=False):
    """`prompt_tokens_details`, `input_tokens_details`."""

    cached_tokens: int | None = None


class UsageBody(msgspec.Struct, gc=False):
    """`usage` of chat, completions and embeddings."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_tokens_details: InputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for cached tokens."""
    reasoning_tokens: int | None = None
    """SGLang's place for them."""


class OnePieceReader(Reader):
    """Answers that are there as a whole or not at all: a list, with input tokens and no output tokens."""

    __slots__ = ()
    generates = False
    key: ClassVar[str]
    """Where the answer has its list."""

    def event(self, data: bytes, at_s: float) -> None:
        """A server that streams such an answer sends all of it as one event."""
        if data.strip() != DONE:
            self.whole(data, at_s)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            answer = self.decode(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        found = getattr(answer, self.key)
        if found is None:
            if not note_error(self, body):
                self.fail(Outcome.MALFORMED, f"The answer has no `{self.key}`.")
            return
        self.finished = True
        if found:
            self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
        self.count_in(answer)

    @abstractmethod
    def decode(self, body: bytes) -> Any:
        """The answer. Raises one of `UNREADABLE`."""

    @abstractmethod
    def count_in(self, answer: Any) -> None:
        """Notes the tokens that were read."""


def note_usage(reader: Reader, usage: UsageBody) -> None:
    """Hands the counts to the reader."""
    output, prompt = usage.completion_tokens_details, usage.prompt_tokens_details
    reasoning = output.reasoning_tokens if output is not None else usage.reasoning_tokens
    cached = prompt.cached_tokens if prompt is not None else usage.prompt_cache_hit_tokens
    said = usage.completion_tokens
    reader.has_usage = reader.has_usage or (said is not None and sane(said) == said)
    reader.input_tokens = sane(usage.prompt_tokens or 0)
    reader.output_tokens = sane(said or 0)
    # Counted chunks of reasoning stand where the server does not say.
    reader.reasoning_tokens = sane(reasoning) if reasoning is not None else reader.reasoning_tokens
    reader.cached_tokens = sane(cached or 0)


def note_unreadable(reader: Reader, data: bytes, error: Exception) -> None:
    """An event or body that is not JSON, or JSON of a wrong shape; an error object may hide in the latter."""
    # Some servers send an event without data to keep the connection open; a body without anything is cut.
    if data and not note_error(reader, data):
        start = data[:80].decode("utf-8", "replace")
        reader.fail(Outcome.MALFORMED, COMPRESSED if data.startswith(GZIP) else f"{error}: {start}")


def note_error(reader: Reader, data: bytes) -> bool:
    """Whether these bytes are an error object, which is then noted. For answers that hold nothing else."""
    try:
        value = decode_any(data)
    except UNREADABLE:
        return False
    message = error_message(value)
    if message is None:
        return False
    reader.fail(Outcome.ERROR_EVENT, message)
    return True


def error_message(value: Any) -> str | None:
    """The sentence of an error object as OpenAI, vLLM and FastAPI shape it; `None` when it is no error."""
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    if error:
        return str(error)
    if value.get("object") == "error" or value.get("type") == "error":
        return str(value.get("message") or value)
    if "detail" in value:
        return str(value["detail"])
    return None
