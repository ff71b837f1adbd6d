"""What vLLM's processes say of their end. Their errors reach ours as "see the root cause above": above is the log."""

import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from typing import BinaryIO

_ERROR = re.compile(r"(?:^|[\]\s])((?:\w+\.)*\w*(?:Error|Exception)): (.{3,})$")
_POINTERS = re.compile(r"root cause|initialization failed|See stack trace|Parent process|cancelled", re.IGNORECASE)
_MOST_CHARS = 500
_KEPT = 50
_TOGETHER_S = 10.0
"""What is written within this time of the last error belongs to it."""
_WAIT_S = 1.0


class Overheard:
    """Reads what this process and its children write, on its way to where it goes."""

    def __init__(self) -> None:
        """From here on file descriptors 1 and 2, which children inherit, are a pipe that a thread empties."""
        self._to = os.fdopen(os.dup(2), "wb", buffering=0)
        source, sink = os.pipe()
        for descriptor in (1, 2):
            os.dup2(sink, descriptor)
        os.close(sink)
        self._errors: deque[tuple[float, str]] = deque(maxlen=_KEPT)
        self._found = threading.Event()
        self._last = b""
        self._said = threading.Event()
        threading.Thread(target=self._read, args=(os.fdopen(source, "rb"),), name="overheard", daemon=True).start()

    def _read(self, source: BinaryIO) -> None:
        for line in source:
            with suppress(OSError):  # A full disk must not stop those who write, and they would wait for us.
                self._to.write(line)
            if line == self._last:
                self._said.set()
            elif cause := cause_in(line.decode(errors="replace")):
                self._errors.append((time.monotonic(), cause))
                self._found.set()

    def cause(self) -> str:
        """The error that came first of those that came last, as its library said it; empty when there was none."""
        self._found.wait(_WAIT_S)
        errors = list(self._errors)
        return next((cause for at, cause in errors if at >= errors[-1][0] - _TOGETHER_S), "")

    def say_last(self, sentence: str) -> None:
        """Writes it behind all that was written before; the process may end right after."""
        self._last = f"{sentence}\n".encode()
        os.write(2, b"\n" + self._last)
        self._said.wait(_WAIT_S)


def cause_in(line: str) -> str:
    """The error that a line of a log ends in; of those that only point at another, nothing."""
    found = _ERROR.search(line.rstrip())
    if found is None or _POINTERS.search(found[2]):
        return ""
    return f"{found[1].rpartition('.')[2]}: {found[2]}"[:_MOST_CHARS]
