"""Images that a model makes: one small square per prompt, whose colour is drawn from the prompt."""

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.entropy import unit
from evalmesh.simulator.schema import Choice, Usage

_encode = msgspec.json.Encoder().encode
_SIDE = 8
_MOST = 10


class ImagesBody(msgspec.Struct):
    """`POST /v1/images/generations`."""

    model: str = ""
    prompt: str = ""
    n: int | None = None
    response_format: Literal["url", "b64_json"] | None = None
    """As in the real API, an address where nothing is said."""
    seed: int | None = None
    stream: Literal[False] | None = None


_decoder = msgspec.json.Decoder(ImagesBody)


def read_images(data: bytes) -> ImagesBody:
    """Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if not body.prompt:
        raise InvalidInput("The field prompt is empty; describe an image.", {"field": "prompt"})
    if body.n is not None and not 1 <= body.n <= _MOST:
        raise InvalidInput(f"The field n is {body.n}; ask for 1 to {_MOST} images.", {"field": "n"})
    return body


@dataclass(frozen=True, slots=True)
class ImagesShape:
    """As many images as were asked for."""

    body: ImagesBody
    created: int
    is_empty: bool = False
    """No images at all: a fault."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        del choices
        counts = {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": 0,
            "total_tokens": usage.prompt_tokens,
        }
        return _encode(self._answer() | {"usage": counts})

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        del choices
        return _encode({"created": self.created})

    def _answer(self) -> dict[str, Any]:
        return {"created": self.created, "data": [] if self.is_empty else [self._one(n) for n in range(self._count)]}

    @property
    def _count(self) -> int:
        return self.body.n or 1

    def _one(self, number: int) -> dict[str, Any]:
        if self.body.response_format != "b64_json":
            return {"url": f"https://images.invalid/{number}.png"}
        return {"b64_json": base64.b64encode(_png(self.body.prompt, number)).decode()}


def _png(*words: object) -> bytes:
    """Source: PNG specification, second edition, section 5."""
    colour = bytes(int(256 * unit("image", channel, *words)) & 255 for channel in range(3))
    rows = (b"\0" + colour * _SIDE) * _SIDE
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
