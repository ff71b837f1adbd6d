"""What bytes of media are: told by how they begin, never by a name."""

import base64
import binascii
import hashlib
import re
from typing import cast

from evalmesh.domain.content import ContentPart, MediaKind

MAX_MEDIA_BYTES = 64 << 20
"""Of one medium. As base64 in a request it is a third more, which few servers take."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
DATA_URL_START = "data:"


def sniff_mime(data: bytes) -> str:
    """The mime type that the first bytes tell; empty for bytes that are no image, sound or film known here."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    return next((mime for start, mime in _STARTS if data.startswith(start)), "")


def media_part(data: bytes) -> ContentPart:
    """The part that names these bytes. Raises `ValueError` for bytes that are no medium, and for too many."""
    if len(data) > MAX_MEDIA_BYTES:
        raise ValueError(f"it has {len(data)} bytes; at most {MAX_MEDIA_BYTES} ({MAX_MEDIA_BYTES >> 20} MiB) are taken")
    mime = sniff_mime(data)
    if not mime:
        raise ValueError(
            f"its bytes begin with {data[:8].hex(' ') or 'nothing'}, which is no image, sound or film that evalmesh "
            "knows (PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF, HEIC; WAV, MP3, AAC, FLAC, Ogg; MP4, MOV, WebM, AVI)"
        )
    kind = cast("MediaKind", mime.partition("/")[0])
    return ContentPart(kind, sha256=hashlib.sha256(data).hexdigest(), mime=mime, size_bytes=len(data))


def decode_base64(text: str) -> bytes:
    """The bytes behind base64, alone or as a data URL. Raises `ValueError`; for a data URL that is not base64 too."""
    if text[:5].lower() == DATA_URL_START:
        match = _DATA_URL.match(text)
        if match is None:
            raise ValueError(f"the data URL {text[:40]!r} is not in base64")
        text = text[match.end() :]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"it is not valid base64 ({error})") from error
