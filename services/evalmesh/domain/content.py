"""What a message is made of: text, media by digest, calls of tools. Bytes of media are never in a message.

A part of media names its bytes by sha256; they lie once in the object store (`layout.media_key`) and are put into a
request by whoever talks to the model. There is no part that names an address: nobody fetches what a model or a data
set points at.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ContentKind = Literal["text", "image", "audio", "video"]
MediaKind = Literal["image", "audio", "video"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ContentPart:
    """One piece of a message: `text` for text; `sha256`, `mime` and `size_bytes` for everything else."""

    kind: ContentKind
    text: str = ""
    sha256: str = ""
    """Of the bytes, lower-case hex."""
    mime: str = ""
    """`image/png`, `audio/wav`, ..."""
    size_bytes: int = 0

    def __post_init__(self) -> None:
        """Raises `ValueError` for a part that is neither text nor media."""
        if self.kind == "text":
            if self.sha256:
                raise ValueError("a text part has no sha256")
        elif self.text or not self.mime or _SHA256.fullmatch(self.sha256) is None:
            raise ValueError(f"a part of kind {self.kind} needs a sha256 (64 hex digits) and a mime type, and no text")

    def __str__(self) -> str:
        """The text, or a short note such as `[image png 12 KiB sha256:abcdef012345]`."""
        if self.kind == "text":
            return self.text
        form = self.mime.partition("/")[2]
        return f"[{self.kind} {form} {_size(self.size_bytes)} sha256:{self.sha256[:12]}]"


Content = str | tuple[ContentPart, ...]
"""Plain text stays a plain string, in memory and in what is stored."""


def content_text(content: Content) -> str:
    """The text of it, without media."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


def describe(content: Content) -> str:
    """For reading: its text, with a short note for each medium, one part below the other."""
    return content if isinstance(content, str) else "\n".join(map(str, content))


def media_of(content: Content) -> tuple[ContentPart, ...]:
    """Its parts that are not text."""
    return () if isinstance(content, str) else tuple(part for part in content if part.kind != "text")


def plain_parts(parts: Sequence[ContentPart]) -> list[dict[str, Any]]:
    """As JSON values without the fields that say nothing; what results and pages show."""
    return [
        {"kind": "text", "text": part.text}
        if part.kind == "text"
        else {"kind": part.kind, "sha256": part.sha256, "mime": part.mime, "size_bytes": part.size_bytes}
        for part in parts
    ]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for."""

    id: str
    """Ties the result (a `tool` message) to the call; empty where the server gives none."""
    name: str
    arguments: str
    """JSON as the model wrote it, which need not be valid."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A function the model may call."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of its arguments."""


def _size(size_bytes: int) -> str:
    if size_bytes < 1024:
        return f"{size_bytes} B"
    return f"{size_bytes / 1024:.0f} KiB" if size_bytes < 1 << 20 else f"{size_bytes / (1 << 20):.1f} MiB"
