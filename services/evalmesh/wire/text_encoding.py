"""In what encoding a file of text is: said by its user, by the mark at its start, by its bytes, or guessed.

UTF-8 and UTF-16 are told from the bytes alone. Of the others one is taken only where it fits better than the rest; else
the file is read as UTF-8 and its rows are refused with those that it may be, since a wrong guess would be measured and
scored as if it were the data.
"""

import codecs
import io
import re
from dataclasses import dataclass, replace
from typing import IO

_HEAD_BYTES = 1 << 18
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_GUESSED = ("gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1252", "cp1251", "koi8_r")
"""One of each family: cp1252 holds latin-1, cp932 is Windows' Shift-JIS, cp949 its EUC-KR, gb18030 holds GBK."""
_SHOWN = {"cp932": "shift_jis", "cp949": "euc_kr"}
_MULTIBYTE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_USUAL_ORDER = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_BLOCK_BYTES = 1 << 16
_NO_TEXT = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "charmap"})
"""Codecs of Python in which no file is."""


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """How the bytes of a file become text."""

    name: str
    mark_bytes: int = 0
    """At the start, which are no text."""
    guessed: bool = False
    old_mac: bool = False
    """Its lines end with a carriage return alone."""
    alike: tuple[str, ...] = ()
    """What it may be instead of the UTF-8 that it is not: the bytes fit all of these."""

    @property
    def is_utf8(self) -> bool:
        """What everything here reads without a detour."""
        return self.name == "utf-8"

    def fault(self, error: UnicodeDecodeError) -> str:
        """What stands where in a line that is no text."""
        column = len(error.object[: error.start].decode()) + 1
        found = f"byte 0x{error.object[error.start]:02x} at column {column}"
        if not self.is_utf8:
            return f"not valid {shown(self.name)}: {found}"
        also = f", or set `encoding` (its bytes fit {', '.join(self.alike)})" if self.alike else ""
        return f"not valid UTF-8: {found}; save the file as UTF-8{also}"

    def opened(self, file: IO[bytes]) -> IO[bytes]:
        """The text of an open file as UTF-8, behind the mark. What is no text stays as it is, and no UTF-8."""
        file.seek(self.mark_bytes)
        if self.is_utf8 and not self.old_mac:
            return file
        return io.BufferedReader(_Recoded(file, self.name, old_mac=self.old_mac), _BLOCK_BYTES)  # type: ignore[type-var]  # its protocol forgets `RawIOBase`


def known_encoding(name: str) -> str:
    """The encoding's own name; `ValueError` for what is none of text."""
    try:
        found = codecs.lookup(name.strip()).name
        if found not in _NO_TEXT and "a".encode(found):
            return "utf-8" if found == "utf-8-sig" else found
    except (LookupError, ValueError):
        pass
    raise ValueError(f"{name[:40]!r} is no encoding of text; use utf-8, utf-16, gb18030, big5, shift_jis, latin-1, ...")


def find_encoding(file: IO[bytes], said: str = "") -> TextEncoding:
    """The encoding of an open file, from its start. Raises `ValueError` for one that is said and none."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    old_mac = b"\r" in head and b"\n" not in head
    return replace(_encoding_of(head, known_encoding(said) if said else ""), old_mac=old_mac)


def _encoding_of(head: bytes, said: str) -> TextEncoding:
    mark, marked = next((one for one in _MARKS if head.startswith(one[0])), (b"", ""))
    if said:
        fits = marked.startswith(said.replace("_", "-"))
        # Without a mark, Python would not say which half of `utf-16` it is.
        name = marked if fits and marked else _USUAL_ORDER.get(said, said)
        return TextEncoding(name, len(mark) if fits else 0)
    if marked:
        return TextEncoding(marked, len(mark))
    whole = head if len(head) < _HEAD_BYTES else head[: head.rfind(b"\n") + 1] or head[:-4]
    if (wide := _two_bytes_each(whole)) is not None:
        return TextEncoding(wide, guessed=True)
    try:
        whole.decode()
    except UnicodeDecodeError:
        return TextEncoding("utf-8") if _mostly_utf8(whole) else _guess(whole)
    return TextEncoding("utf-8")


def shown(name: str) -> str:
    """An encoding as people call it."""
    return _SHOWN.get(name, name)


def _two_bytes_each(data: bytes) -> str | None:
    """UTF-16 without a mark: the half of each ASCII character that is zero tells its order."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if b"\x00" not in data or max(even, odd) * 8 < len(data) or min(even, odd) * 8 > max(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _mostly_utf8(data: bytes) -> bool:
    """Whether stray bytes are faults of a UTF-8 file: whole characters beyond ASCII outnumber them."""
    wrong = data.decode(errors="replace").count("\ufffd") - data.count("\ufffd".encode())
    sound = 0
    for found in _MULTIBYTE.finditer(data):
        try:
            sound += len(found[0].decode())
        except UnicodeDecodeError:
            continue
    return sound > 2 * wrong


def _guess(data: bytes) -> TextEncoding:
    # 50 ms that only those pay whose file is no UTF-8.
    from charset_normalizer import from_bytes  # noqa: PLC0415

    # Lines of ASCII say nothing, and dilute what the others say.
    telling = b"\n".join(line for line in data.splitlines() if not line.isascii())
    found = [] if b"\x00" in data else list(from_bytes(telling, cp_isolation=list(_GUESSED)))
    best = [one for one in found if (one.chaos, one.coherence) == (found[0].chaos, found[0].coherence)]
    if len({str(one) for one in best}) == 1:
        return TextEncoding(best[0].encoding, guessed=True)
    return TextEncoding("utf-8", alike=tuple(shown(one.encoding) for one in best))


class _Recoded(io.RawIOBase):
    """The text of a file as UTF-8. Bytes that are none of its encoding come through as they are."""

    def __init__(self, file: IO[bytes], encoding: str, *, old_mac: bool) -> None:
        self._file = file
        self._old_mac = old_mac
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer
        while not self._ready and not self._ended:
            data = self._file.read(_BLOCK_BYTES)
            self._ended = not data
            text = self._decoder.decode(data, final=self._ended)
            self._ready = (text.replace("\r", "\n") if self._old_mac else text).encode("utf-8", "surrogateescape")
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
