"""Server-sent events: bytes in, payloads out.

Source: WHATWG HTML standard, section 9.2, "Server-sent events". Event names, ids and retry times are not used here.
"""

import re

MAX_FRAME_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data", b"event", b"id", b"retry", b"error")

_ENDS_LINE = re.compile(rb"[\r\n]").search
_BEGINS = re.compile(rb"(?:data|event|id|retry|error)?:|data[\r\n]").match


def is_stream(start: bytes) -> bool | None:
    """Whether a body that begins so is a stream of events, whatever it is called; `None`: that cannot be told yet.

    Servers keep slow answers of either form open with blank lines.
    """
    text = start.removeprefix(_BOM).lstrip()
    if _BEGINS(text):
        return True
    if not text or _BOM.startswith(text) or any(name.startswith(text) for name in _FIELDS):
        return None
    return False


class FrameTooLarge(ValueError):
    """An event without end."""


class SseParser:
    """Cuts a byte stream, split anywhere, into the data of its events."""

    __slots__ = ("_data", "_data_bytes", "_first", "_more", "_more_bytes", "_tail")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next byte begins another stream."""
        self._tail = b""
        self._more: list[bytes] = []
        """Pieces of an unfinished line behind `_tail`, joined once it ends: else a long line is copied for each."""
        self._more_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that are complete now, in order. Raises `FrameTooLarge`."""
        if self._tail and not self._first and not self._tail.endswith(b"\r") and not _ENDS_LINE(chunk):
            self._more.append(chunk)
            self._more_bytes += len(chunk)
            self._check()
            return []
        text = self._joined() + chunk if self._tail else chunk
        if self._first:
            if len(text) < 3 and _BOM.startswith(text):
                self._tail = text
                return []
            self._first = False
            text = text.removeprefix(_BOM)
        held = b""
        if b"\r" in text:
            if text.endswith(b"\r"):  # Its line feed may still come, and would count as an empty line.
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = text.split(b"\n")
        self._tail = lines.pop() + held
        events = self._events(lines)
        self._check()
        return events

    def finish(self) -> list[bytes]:
        """What is left at the end of the stream: an event whose empty line was never sent, complete or not."""
        lines = [self._joined().rstrip(b"\r"), b""]
        self._tail = b""
        return self._events(lines)

    def _joined(self) -> bytes:
        if self._more:
            self._tail = b"".join([self._tail, *self._more])
            self._more.clear()
            self._more_bytes = 0
        return self._tail

    def _check(self) -> None:
        if len(self._tail) + self._more_bytes + self._data_bytes > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"an event of more than {MAX_FRAME_BYTES} bytes")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._data_bytes = 0
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_bytes += len(line)
            elif line == b"data":
                data.append(b"")
                self._data_bytes += len(line)
            elif line.startswith(b"error:"):
                # Old llama.cpp: an error in the place of the field's name.
                data.append(b'{"error":%b}' % line[6:])
                self._data_bytes += len(line)
        return events


class SseSplitter(SseParser):
    """The same at the speed of a load test: the common case is cut by two calls, the others by the parser."""

    __slots__ = ()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that are complete now, in order. Raises `FrameTooLarge`.

        Nearly every piece that arrives is a row of whole events of one `data: ` line each.
        """
        if not self._tail and not self._data and chunk[:6] == b"data: " and chunk[-2:] == b"\n\n":
            found = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(found) and b"\r" not in chunk:
                self._first = False
                return found
        return super().feed(chunk)

    @property
    def is_clean(self) -> bool:
        """Whether the next byte begins an event."""
        return not self._tail and not self._data
