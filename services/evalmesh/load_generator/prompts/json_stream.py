"""The items of a JSON array, one at a time: a data set of gigabytes takes the memory of its longest item."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from evalmesh.domain.errors import InvalidInput

_CHUNK_BYTES = 1 << 16
_MOST_CHARACTERS = 1 << 26
"""One item beyond this is no row but a file that is not what it seems."""
_NEAR_END = 16
"""An error this close to the end of what was read so far may only mean that more has to be read: a cut literal,
number or escape."""
_SPACE = " \t\r\n\ufeff"
_AFTER = (",", "]", *_SPACE)
_decoder = json.JSONDecoder()


def items(file: IO[bytes]) -> Iterator[Any]:
    """Yields each item of the array in the file. Raises `InvalidInput` that names the item where it is broken."""
    text = _Window(file)
    if text.skip_space() != "[":
        raise InvalidInput("The file is no JSON array: it does not start with '['. Use one object per line (.jsonl).")
    text.advance(1)
    number = 0
    if text.skip_space() == "]":
        return
    while True:
        number += 1
        yield _item(text, number)
        mark = text.skip_space()
        if mark == "]":
            return
        if mark != ",":
            raise _broken(number, f"',' or ']' should follow it, not {mark!r}" if mark else "the file ends behind it")
        text.advance(1)
        text.skip_space()


class _Window:
    """The part of the file that is being looked at."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._ended = False
        self._chunk = _CHUNK_BYTES
        self.text = ""
        self.at = 0

    def more(self) -> bool:
        """Reads on; False at the end of the file. What is behind `at` is given up."""
        if self._ended:
            return False
        self.text, self.at = self.text[self.at :], 0
        # An item that does not fit is parsed anew with each chunk, so chunks grow with it.
        data = self._file.read(max(self._chunk, len(self.text)))
        self._ended = not data
        self.text += self._decode(data, self._ended)
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


def _item(text: _Window, number: int) -> Any:
    while True:
        try:
            value, end = _decoder.raw_decode(text.text, text.at)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.text) - _NEAR_END
            if not cut or len(text.text) - text.at > _MOST_CHARACTERS or not text.more():
                raise _broken(number, error.msg) from error
        except RecursionError as error:
            raise _broken(number, "it is nested too deeply") from error
        else:
            # A number that is cut may look whole; so its end is only known from what follows.
            if text.text[end : end + 1] in _AFTER or not text.more():
                text.at = end
                return value


def _broken(number: int, why: str) -> InvalidInput:
    return InvalidInput(
        f"Item {number} of the JSON array is broken: {why}. Repair the file from there on.",
        {"field": "prompts.file_digest"},
    )
