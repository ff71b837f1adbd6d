"""Headers that a command line names: what may stand in a spec, and what is handed over apart from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalmesh.domain.connection import is_reference
from evalmesh.domain.errors import InvalidInput

_SECRET = re.compile(r"key|token|secret|cookie|auth|passw|credential|signature|session|jwt", re.IGNORECASE)
"""In the names of headers whose values are keys, whatever they are."""
_HARMLESS = frozenset(
    {
        "accept", "accept-language", "anthropic-version", "content-type", "http-referer", "openai-beta",
        "openai-organization", "openai-project", "origin", "referer", "user-agent", "x-request-id", "x-title",
    }
)  # fmt: skip
_KEY_LIKE = re.compile(r"(sk-|bearer |basic )|(?=.*[0-9])[A-Za-z0-9+/=_.-]{20,}$", re.IGNORECASE)
_SHORTEST_KEY = 8
PREFIX = "EVALMESH_HEADER_"


@dataclass(frozen=True, slots=True)
class Headers:
    """Headers, taken apart by who may see them."""

    shown: Mapping[str, str]
    """As a spec has them: in place of what may be a key there is a reference to it."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the references mean, by variable."""
    bearer: str = field(default="", repr=False)
    """A bearer token among them: it is the key of the endpoint."""


def split_headers(headers: Mapping[str, str], server: str | None, where: str = "headers") -> Headers:
    """Holds back what may be a key: for a platform of this command's own all that is not plainly harmless.

    Raises `InvalidInput`, without the value, for a key that would have to be sent to a server.
    """
    shown: dict[str, str] = {}
    keys: dict[str, str] = {}
    bearer = ""
    for name, value in headers.items():
        if name.lower() == "authorization" and value.lower().startswith("bearer "):
            bearer = value[7:].strip()
        elif is_reference(value) or not (_is_key(name, value) if server else _may_be_key(name, value)):
            shown[name] = value
        elif server:
            raise InvalidInput(
                f"{where}.{name}: a key itself is never sent to a server (its text is withheld); whoever "
                f"runs the platform declares it (evalmesh up --connection), and you write {name}=env:NAME.",
                {"field": f"{where}.{name}"},
            )
        else:
            variable = PREFIX + re.sub(r"[^A-Za-z0-9]", "_", name).upper()
            shown[name], keys[variable] = f"env:{variable}", value
    return Headers(shown, keys, bearer)


def _is_key(name: str, value: str) -> bool:
    return bool(_SECRET.search(name) or _KEY_LIKE.match(value))


def _may_be_key(name: str, value: str) -> bool:
    if name.lower() in _HARMLESS:
        return bool(_KEY_LIKE.match(value)) and name.lower() != "user-agent"
    return _is_key(name, value) or len(value) >= _SHORTEST_KEY


def headers_of(parts: list[Any], where: str) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME: VALUE` as curl has it. Raises `InvalidInput`, without the value."""
    found = {}
    for part in parts:
        name, sign, value = _parted(part) if isinstance(part, str) else ("", "", "")
        if not sign or not name.strip():
            raise InvalidInput(f"{where}: the value (withheld) is not allowed; write NAME=VALUE.", {"field": where})
        found[name.strip()] = value.strip()
    return found


def _parted(part: str) -> tuple[str, str, str]:
    colon, equals = part.find(":"), part.find("=")
    return part.partition(":" if 0 < colon < (equals if equals >= 0 else len(part)) else "=")
