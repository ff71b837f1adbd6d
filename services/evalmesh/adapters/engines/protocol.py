"""What goes between an endpoint and the processes of its engine: frames of a header and a body of MessagePack."""

import struct
from collections.abc import Sequence

import msgspec

from evalmesh.adapters.engines.engine import EngineOptions, EngineRequest
from evalmesh.domain.completion import Completion
from evalmesh.domain.needs import Capabilities

HEADER = struct.Struct(">4sI")
"""Mark, and size of the body in bytes."""
MARK = b"em2\n"
MOST_BYTES = 1 << 30
"""Of a body: a question with films is large."""


class Open(msgspec.Struct, tag="open"):
    """Load the model. Comes first, and once."""

    implementation: str
    """`module:function`, an `OpenEngine`."""
    options: EngineOptions


class Ask(msgspec.Struct, tag="ask"):
    """Answer this."""

    number: int
    question: EngineRequest


class Forget(msgspec.Struct, tag="forget"):
    """Nobody waits for these any more; they are not answered."""

    numbers: Sequence[int]


class Opened(msgspec.Struct, tag="opened"):
    """The model is loaded."""

    capabilities: Capabilities


class Refused(msgspec.Struct, tag="refused"):
    """It cannot be; the process ends."""

    sentence: str
    field: str = ""
    """Empty: nothing that the user chose is to blame."""


class Answered(msgspec.Struct, tag="answered"):
    """The answer to one question."""

    number: int
    completion: Completion


class Note(msgspec.Struct, tag="note"):
    """The user should know this."""

    sentence: str


class Working(msgspec.Struct, tag="working"):
    """The engine has come on since this was said last; at most one a second."""


Told = Open | Ask | Forget
Said = Opened | Refused | Answered | Note | Working
told_decoder: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)
said_decoder: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def frame(message: Told | Said) -> bytes:
    """A whole frame. Raises `ValueError` for a message that is too large."""
    body = msgspec.msgpack.encode(message)
    if len(body) > MOST_BYTES:
        raise ValueError(f"{len(body)} bytes are more than a message may have")
    return HEADER.pack(MARK, len(body)) + body


def size_of(header: bytes) -> int:
    """Of the body that follows. Raises `ValueError` where something else lies in the pipe."""
    mark, size = HEADER.unpack(header)
    if mark != MARK or size > MOST_BYTES:
        raise ValueError("something else lies in the pipe")
    return int(size)
