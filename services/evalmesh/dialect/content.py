"""What a message says: its text, its thoughts, its refusal, and what is called or shown beside them."""

from collections.abc import Iterable, Mapping
from typing import Any

from evalmesh.dialect.loose import mappings_of, text_of
from evalmesh.dialect.shapes import Choice, Message
from evalmesh.domain.media import DATA_URL_START, decode_base64

THOUGHTS = frozenset({"thinking", "reasoning", "thought", "reasoning_text", "redacted_thinking"})
"""Types of content parts whose text is not the answer."""
_NO_TEXT = (bool, int, float)


class NoText(ValueError):
    """The content is of a type that no text has."""


def said_in(choice: Choice, message: Message | None) -> str:
    """The text of a choice: of its message, else its own. Raises `NoText`."""
    if message is None:
        return _text(choice.text)
    return _content(message) or (choice.text if isinstance(choice.text, str) else "")


def _content(message: Message) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        return _transcript(message.audio)
    return _text(content)


def _text(content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, _NO_TEXT):
        raise NoText(f"its text is {content!r}")
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return ""
    return "".join([one if isinstance(one, str) else _part_text(one) for one in content])


def _part_text(part: object) -> str:
    if not isinstance(part, Mapping) or part.get("type") in THOUGHTS:
        return ""
    return text_of(part.get("text"))


def _parts(message: Message) -> list[Mapping[str, Any]]:
    content = message.content
    return [] if content is None or isinstance(content, str) else mappings_of(content)


def thought_in(message: Message) -> str:
    """Reasoning, wherever it is kept: a field of its own, or parts of the content."""
    return (
        text_of(message.reasoning_content)
        or text_of(message.reasoning)
        or text_of(message.thinking)
        or "".join(
            text_of(part.get("thinking")) or text_of(part)
            for part in _parts(message)
            if part.get("type") in THOUGHTS or "thinking" in part
        )
        or text_of(message.reasoning_details)
    )


def refusal_in(message: Message) -> str:
    """Why the model will not answer, where it says so apart from the text."""
    refusal = message.refusal
    return refusal if isinstance(refusal, str) else "".join(text_of(part.get("refusal")) for part in _parts(message))


def _transcript(audio: object) -> str:
    said = audio.get("transcript") if isinstance(audio, Mapping) else None
    return said if isinstance(said, str) else ""


def sound_in(message: Message) -> bytes:
    """A spoken answer, or a piece of one; each is in base64 by itself. Raises `ValueError` for what is no base64."""
    audio = message.audio
    data = audio.get("data") if isinstance(audio, Mapping) else None
    return decode_base64(data) if data and isinstance(data, str) else b""


def images_in(message: Message) -> list[bytes]:
    """Images among the parts of a message. Raises `ValueError` for one that cannot be taken over."""
    return list(_images([*_parts(message), *mappings_of(message.images)]))


def _images(parts: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    for part in parts:
        found = part.get("image_url")
        if found is not None:
            url = str(found.get("url") if isinstance(found, Mapping) else found)
            if url[: len(DATA_URL_START)].lower() != DATA_URL_START:
                # Nothing that a model points at is fetched.
                raise ValueError("a medium by address; evalmesh fetches nothing that a model points at, ask for base64")
            yield decode_base64(url)
