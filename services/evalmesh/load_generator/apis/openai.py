"""What the APIs that OpenAI defined have in common: token counts and errors."""

from typing import Any

import msgspec

from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Reader, sane

decode_any = msgspec.json.Decoder().decode
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


class Usage(msgspec.Struct, gc=False):
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


def note_usage(reader: Reader, usage: Usage) -> None:
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
