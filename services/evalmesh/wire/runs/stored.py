"""Stored completions: what an older build let in is mended while it is read, so that its runs heal on resume.

Token counts that are none are dropped by `Usage` itself. A time that is none costs the completion its timing only.
"""

from dataclasses import replace

import msgspec

from evalmesh.domain.completion import Completion, Timing
from evalmesh.domain.errors import InternalError
from evalmesh.wire.codec import decode_rows


def decode_completions(data: bytes, key: str = "") -> list[Completion]:
    """All rows of a shard. Raises `InternalError` that names `key` and the line."""
    try:
        rows = decode_rows(Completion, data, key)
    except InternalError:
        rows = decode_rows(Completion, _without_broken_times(data), key)
    return [row if row.timing is None or row.timing.sound else replace(row, timing=None) for row in rows]


def _without_broken_times(data: bytes) -> bytes:
    """The rows, of which those lose their timing that cannot be read with it: JSON has no infinity, only null."""
    rows = []
    for line in data.splitlines():
        try:
            row = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return data  # it is damaged otherwise, which the decoder says best
        try:
            msgspec.json.decode(row.get("timing", b"null"), type=Timing | None)
        except msgspec.ValidationError:
            row["timing"] = msgspec.Raw(b"null")
        rows.append(msgspec.json.encode(row))
    return b"\n".join(rows)
