"""Media of rows: whatever form a column has them in, they become parts that name their bytes by sha256.

The bytes go beside the samples into a `MediaSink`, from where the planner stores them before anything refers to them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from evalmesh.domain.content import ContentPart
from evalmesh.domain.media import DATA_URL_START, decode_base64, media_part, sniff_mime

_SNIFFED_CHARS = 64
_SHOWN_CHARS = 80

FileReader = Callable[[str], bytes]
"""Bytes of a file named relative to the data file. Raises `ValueError` for one that is not there, or outside."""


def _no_files(path: str) -> bytes:
    raise ValueError(f"it names the file {path!r}, and these rows come from no folder")


class MediaSink:
    """Collects the bytes of media, each once, until `take`."""

    def __init__(self, read_file: FileReader = _no_files) -> None:
        self._read_file = read_file
        self._bytes: dict[str, bytes] = {}
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Of what is held."""
        return self._size_bytes

    def take(self) -> dict[str, bytes]:
        """What is held, by sha256; it is held no longer."""
        taken, self._bytes, self._size_bytes = self._bytes, {}, 0
        return taken

    def fresh(self) -> "MediaSink":
        """An empty one that reads the same files."""
        return MediaSink(self._read_file)

    def adopt(self, other: "MediaSink") -> None:
        """Takes over what another one holds."""
        for sha256, data in other.take().items():
            self._put(sha256, data)

    def _put(self, sha256: str, data: bytes) -> None:
        if sha256 not in self._bytes:
            self._bytes[sha256] = data
            self._size_bytes += len(data)

    def add(self, value: Any) -> tuple[ContentPart, ...]:
        """The parts of a column's value, in order; none for an empty one.

        Known forms: bytes; `{"bytes": ..., "path": ...}` as Hugging Face stores images and sounds; `{"url": data URL}`;
        a data URL or plain base64; the path of a file beside the data file; a list of any of these. Raises `ValueError`
        for anything else, also for a web address: nothing is fetched.
        """
        if value is None or value in ("", b""):
            return ()
        if isinstance(value, list | tuple):
            return tuple(part for one in value for part in self.add(one))
        data = self._bytes_of(value)
        part = media_part(data)
        self._put(part.sha256, data)
        return (part,)

    def _bytes_of(self, value: Any) -> bytes:
        if isinstance(value, Mapping):
            found = next((value[key] for key in ("bytes", "data", "url", "path") if value.get(key)), None)
            if found is None or isinstance(found, Mapping):
                raise ValueError(f"it holds an object with {', '.join(map(str, value)) or 'nothing'}, not with bytes")
            return self._bytes_of(found)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, str):
            return self._bytes_of_text(value.strip())
        raise ValueError(f"it holds a {type(value).__name__}, expected bytes, a data URL, base64 or a file name")

    def _bytes_of_text(self, text: str) -> bytes:
        if text[: len(DATA_URL_START)].lower() == DATA_URL_START or _is_base64_of_media(text):
            return decode_base64(text)
        if "://" in text[:_SHOWN_CHARS]:
            raise ValueError(f"it names the address {text[:_SHOWN_CHARS]!r}, and nothing is fetched; bring the bytes")
        return self._read_file(text)


def _is_base64_of_media(text: str) -> bool:
    try:
        return bool(sniff_mime(decode_base64(text[: min(_SNIFFED_CHARS, len(text) // 4 * 4)])))
    except ValueError:
        return False
