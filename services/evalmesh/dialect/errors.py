"""What servers say went wrong: OpenAI's form, vLLM's, TGI's, llama.cpp's, FastAPI's, Anthropic's, and plain text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from evalmesh.dialect.loose import json_text_of
from evalmesh.dialect.shapes import UNREADABLE, Chunk, loads

COMPRESSED = "a compressed body, although Accept-Encoding says identity (transport compatible unpacks it)"
_ZIPPED = (b"\x1f\x8b", b"x\x01", b"x\x9c", b"x\xda")
"""How gzip and zlib begin."""

_decode = msgspec.json.Decoder().decode
_NO_ERROR = frozenset({"", "0", "200", "none", "null", "ok", "success"})
"""Codes and messages by which gateways say that there is no error."""
_SHOWN = 4000


def is_compressed(body: bytes) -> bool:
    """Whether these bytes are packed; the HTTP client has unpacked what it could."""
    return body.startswith(_ZIPPED)


class Said(NamedTuple):
    """A server's own words."""

    message: str
    code: str = ""
    """A status, or a word like `insufficient_quota`."""

    @property
    def status(self) -> int | None:
        """The code where it is a status of HTTP that means an error."""
        return int(self.code) if len(self.code) == 3 and self.code.isdecimal() and self.code[0] in "45" else None


_FILTERED = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed"}
)
"""Codes of Azure, OpenAI and DashScope."""
_FILTERED_BY_GATEWAYS = "ContentPolicyViolationError"


def is_filtered(said: Said) -> bool:
    """Whether a content filter held the prompt or the answer back, which is an outcome and no failure."""
    return said.code.lower() in _FILTERED or _FILTERED_BY_GATEWAYS in said.message


def said_of(error: object) -> Said:
    """Of what stands under `error` or `detail`, or of the whole body."""
    if isinstance(error, str):
        return Said(error)
    if not isinstance(error, Mapping):
        return Said(json_text_of(error))
    inner = error.get("error")
    if isinstance(inner, Mapping) and "message" not in error:
        return said_of(inner)
    found = next((error[key] for key in ("message", "detail", "msg", "error", "Message") if error.get(key)), None)
    code = next((error[key] for key in ("code", "status", "http_status_code") if error.get(key)), "")
    code = "" if isinstance(code, list | dict) else str(code).removesuffix(".0")
    return Said(json_text_of(error if found is None else found), code)


def error_in(chunk: Chunk, data: bytes) -> Said | None:
    """The error that an answer of status 200, or an event of a stream, holds in place of an answer; `data` is its JSON.

    Quick where there are choices and nothing is said of an error.
    """
    if chunk.choices and not chunk.error:
        return next((said_of(one.error) for one in chunk.choices if one.error and not _means_none(one.error)), None)
    found: Any = _read(data)
    return _error_of(chunk, found) if isinstance(found, Mapping) else None


def _error_of(chunk: Chunk, found: Mapping[str, Any]) -> Said | None:
    get = found.get
    if chunk.error and not _means_none(chunk.error):
        said = said_of(chunk.error)
        return said if said.code else said._replace(code=said_of({"code": get("code")}).code)
    if get("object") == "error" or get("type") == "error":
        return said_of(found)
    if chunk.choices is not None:
        return None
    if get("detail"):
        return said_of({"detail": get("detail"), "code": get("code")})
    # Without an error's number it may as well be news of a queue.
    said = said_of({"message": get("message") or get("msg"), "code": get("code") or get("status")})
    return said if (get("message") or get("msg")) and said.status is not None else None


def _means_none(error: object) -> bool:
    """`{"code": 0, "message": ""}` and its like: fields that some gateways always send."""
    if isinstance(error, Mapping):
        return all(_means_none(value) for value in error.values())
    if isinstance(error, list):
        return all(_means_none(value) for value in error)
    return not error or str(error).strip().lower() in _NO_ERROR


def said_in_body(body: bytes) -> Said:
    """The words of an answer whose status is an error."""
    if is_compressed(body):
        return Said(COMPRESSED)
    try:
        content: Any = _read(body)
    except UNREADABLE:
        return Said(body[:_SHOWN].decode("utf-8", "replace"))
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, Mapping):
        for key in ("error", "detail"):
            if content.get(key):
                said = said_of(content[key])
                return said if said.code else said._replace(code=said_of({"code": content.get("code")}).code)
    return said_of(content)


def _read(body: bytes) -> Any:
    try:
        return _decode(body)
    except UNREADABLE as error:
        return loads(body, error)
