"""Server-sent events: bytes in, payloads out.

Source: WHATWG HTML standard, section 9.2, "Server-sent events". Event names, ids and retry times are not used here.
"""

MAX_FRAME_BYTES = 16 * 2**20


class FrameTooLarge(ValueError):
    """An event without end."""


class SseParser:
    """Cuts a byte stream, split anywhere, into the data of its events."""

    __slots__ = ("_data", "_first", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] = []
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that are complete now, in order. Raises `FrameTooLarge`."""
        text = self._tail + chunk if self._tail else chunk
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
        if len(self._tail) > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"an event of more than {MAX_FRAME_BYTES} bytes")
        return self._events(lines)

    def finish(self) -> list[bytes]:
        """What is left at the end of the stream: an event whose empty line was never sent, complete or not."""
        lines = [self._tail.rstrip(b"\r"), b""]
        self._tail = b""
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                data.append(b"")
        return events
