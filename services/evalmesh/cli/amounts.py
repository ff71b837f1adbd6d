"""Bytes and times as people read and write them."""

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from evalmesh.domain.errors import InvalidInput

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def bytes_text(count: int) -> str:
    """`57.3 MB`; decimal, as disks are sold."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def parse_age_s(text: str, flag: str) -> float:
    """`30d`, `12h`, `2w`. Raises `InvalidInput`."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"{flag}: {text!r} is no length of time; write a number and a unit: 90m, 12h, 30d, 2w.", {"field": flag}
        )
    return float(found[1]) * _UNITS_S[found[2]]


def parse_moment(text: str, flag: str, now: float) -> float:
    """Unix seconds of `7d` (ago), `2026-11-30` or `2026-11-30 14:05` (local time). Raises `InvalidInput`."""
    if _AGE.fullmatch(text.strip()):
        return now - parse_age_s(text, flag)
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{flag}: {text!r} is no moment; write a length of time before now (12h, 7d), or a date: 2026-11-30, "
            "2026-11-30 14:05.",
            {"field": flag},
        ) from None


def folder_bytes(folder: Path) -> int:
    """Of all files below it, the platform's own left out."""
    total = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one != ".evalmesh"]
        for name in files:
            with suppress(OSError):
                total += Path(root, name).lstat().st_size
    return total
