"""The items of a list in a JSON file, one at a time: a data set of gigabytes takes the memory of its longest item."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

LIST_KEYS = ("examples", "data", "rows", "instances")
"""Where a file that is an object has its list."""
_CHUNK_BYTES = 1 << 16
_MOST_CHARACTERS = 1 << 26
"""One item beyond this is no row but a file that is not what it seems."""
_NEAR_END = 16
"""An error this close to the end of what was read so far may only mean that more has to be read: a cut literal,
number or escape."""
_SPACE = " \t\r\n\ufeff"
_AFTER = (",", "]", "}", ":", *_SPACE)
_decoder = json.JSONDecoder()


class NoListError(ValueError):
    """The file holds JSON, and no list of rows."""


def decoded(text: str) -> Any:
    """A JSON text as a value. Raises `ValueError`, also for text that cannot be written down again."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return _writable(value) if "\\u" in text else value


def _writable(value: Any) -> Any:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a character of two \\u escapes") from error
    return value


def items(file: IO[bytes]) -> Iterator[Any]:
    """Yields each item of the list in the file, itself the list or an object with one under one of `LIST_KEYS`.

    An item that cannot be written down again comes as the `ValueError` that says why. Raises `ValueError` with item,
    line and column where the file is broken, `NoListError` for a file without a list.
    """
    text = _Window(file)
    if text.skip_space() == "{":
        _enter_list(text)
    elif text.skip_space() != "[":
        raise NoListError
    text.advance(1)
    number = 0
    if text.skip_space() == "]":
        return
    while True:
        number += 1
        what = f"item {number}"
        yield _value(text, what)
        mark = text.skip_space()
        if mark == "]":
            return
        if mark != ",":
            raise text.broken(what, f"',' or ']' should follow it, not {mark!r}" if mark else "the file ends behind it")
        text.advance(1)
        text.skip_space()


def _enter_list(text: "_Window") -> None:
    """Goes on to the first of the object's lists, which are told by their keys."""
    mark = ","
    while mark == ",":
        text.advance(1)
        if text.skip_space() == "}":
            break
        key = _value(text, "a key")
        if text.skip_space() != ":":
            raise text.broken(f"the key {str(key)[:80]!r}", "':' should follow it")
        text.advance(1)
        if text.skip_space() == "[" and key in LIST_KEYS:
            return
        _value(text, f"the value of {str(key)[:80]!r}")
        mark = text.skip_space()
    raise NoListError


class _Window:
    """The part of the file that is being looked at."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._ended = False
        self._line, self._column = 1, 1
        """Where `text` begins."""
        self.text = ""
        self.at = 0

    def more(self) -> bool:
        """Reads on; False at the end of the file. What is behind `at` is given up."""
        if self._ended:
            return False
        self._line, self._column = self._place(self.at)
        self.text, self.at = self.text[self.at :], 0
        # An item that does not fit is parsed anew with each chunk, so chunks grow with it.
        data = self._file.read(max(_CHUNK_BYTES, len(self.text)))
        self._ended = not data
        try:
            self.text += self._decode(data, self._ended)
        except UnicodeDecodeError as error:
            self.text += error.object[: error.start].decode()
            line, column = self._place(len(self.text))
            byte = error.object[error.start]
            raise ValueError(
                f"line {line}, column {column}: byte 0x{byte:02x} is not valid UTF-8; save the file as UTF-8"
            ) from error
        return True

    def advance(self, by: int) -> None:
        self.at += by

    def skip_space(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def broken(self, what: str, why: str, at: int | None = None) -> ValueError:
        """What is wrong at a place of `text`; by default where it is looked at."""
        line, column = self._place(self.at if at is None else at)
        return ValueError(f"{what}, line {line}, column {column}: {why}")

    def _place(self, at: int) -> tuple[int, int]:
        lines = self.text.count("\n", 0, at)
        return self._line + lines, at - self.text.rfind("\n", 0, at) if lines else self._column + at


def _value(text: _Window, what: str) -> Any:
    while True:
        try:
            value, end = _decoder.raw_decode(text.text, text.at)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.text) - _NEAR_END
            if not cut or len(text.text) - text.at > _MOST_CHARACTERS or not text.more():
                raise text.broken(what, error.msg, min(error.pos, len(text.text))) from error
        except RecursionError as error:
            raise text.broken(what, "it is nested too deeply") from error
        else:
            # A number that is cut may look whole; so its end is only known from what follows.
            if text.text[end : end + 1] in _AFTER or not text.more():
                escaped = text.text.find("\\u", text.at, end) >= 0
                text.at = end
                try:
                    return _writable(value) if escaped else value
                except ValueError as error:
                    return error
