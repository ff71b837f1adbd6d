"""Which keys every backend can hold."""

import re

from evalmesh.domain.errors import InvalidInput

RESERVED_PREFIX = ".evalmesh/"
"""Objects the adapter writes for itself; never listed."""

_MAX_KEY_BYTES = 900
"""S3 allows 1024 with the store's own prefix in front."""
_MAX_SEGMENT_BYTES = 240
"""File systems allow 255; a write in progress adds a suffix."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STAGING = re.compile(r"#\d+$")
"""obstore writes `name#1`, `name#2`, ... beside the final name and renames; a killed writer leaves one behind."""


def is_staging(name: str) -> bool:
    """Whether a file name is that of a write in progress, or of one that was killed."""
    return _STAGING.search(name) is not None


def check_key(key: str) -> str:
    """The key itself; raises `InvalidInput` when some backend could not hold it."""
    problem = _problem(key.split("/"), key) or ("it is reserved" if key.startswith(RESERVED_PREFIX) else "")
    if problem:
        raise InvalidInput(
            f"Object key {key!r} is not allowed: {problem}. Use '/'-separated names such as 'runs/r1/plan.json'.",
            {"field": "key"},
        )
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself; raises `InvalidInput` when no key could start with it."""
    *folders, last = prefix.split("/")
    problem = _problem([*folders, last or "x"], prefix) if prefix else ""
    if problem and not (last and problem == _ENDS_LIKE_STAGING):
        raise InvalidInput(
            f"Object key prefix {prefix!r} is not allowed: {problem}. Use the start of a key such as 'runs/r1/'.",
            {"field": "prefix"},
        )
    return prefix


_ENDS_LIKE_STAGING = "it ends in '#' and digits, the mark of a write in progress"


def _problem(segments: list[str], text: str) -> str:
    """Why these segments cannot be a key; empty when they can."""
    if any(segment in {"", ".", ".."} for segment in segments):
        return "it has an empty, '.' or '..' segment"
    if _CONTROL.search(text):
        return "it has a control character"
    try:
        sizes_bytes = [len(segment.encode()) for segment in segments]
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if max(sizes_bytes) > _MAX_SEGMENT_BYTES or len(text.encode()) > _MAX_KEY_BYTES:
        return f"it is longer than {_MAX_KEY_BYTES} bytes, or a segment than {_MAX_SEGMENT_BYTES}"
    return _ENDS_LIKE_STAGING if is_staging(segments[-1]) else ""
