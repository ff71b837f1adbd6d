"""Domain values as the plain JSON values that reports are made of: finite numbers, no secrets, times in RFC 3339."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_SECRET_NAME = re.compile(r"(?i)(api[_-]?key|authorization|secret|password|credential|(^|[_-])token$)")


def plain(value: Any) -> Any:
    """JSON values without NaN and infinity; secrets inside server-specific options are masked by their names."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): "***" if _SECRET_NAME.search(str(k)) else plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def iso(time_s: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_s(start: float | None, end: float | None) -> float | None:
    """From start to end; `None` unless both are known."""
    return None if start is None or end is None else round(max(0.0, end - start), 3)


def public_url(url: str) -> str:
    """The address without user, password, query and fragment: each of them may carry a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def public_key_ref(key_ref: str) -> str:
    """Where the key is taken from; empty for a key typed where its reference belongs, which must not be published."""
    return key_ref if key_ref.startswith(("env:", "secret:")) else ""


@cache
def own_version() -> str:
    """The version of evalmesh that writes."""
    try:
        return version("evalmesh")
    except PackageNotFoundError:
        return "unknown"
