"""Server-sent events: bytes in, payloads out.

Source: WHATWG HTML standard, section 9.2, "Server-sent events". Event names, ids and retry times are not used here.
"""

import re

MAX_FRAME_BYTES = 16 * 2**20


_ENDS_LINE = re.compile(rb"[\r\n]").search


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
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._tail = text
                return []
            self._first = False
            text = text.removeprefix(b"\xef\xbb\xbf")
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
        return events
