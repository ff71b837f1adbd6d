"""Where the messages API is, and how it is told who asks."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from evalmesh.dialect import addresses
from evalmesh.dialect.addresses import Address

VERSION: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
"""The one there is; a header of the user's own takes its place."""
_VERSIONED = re.compile(r"/v\d+(beta\d*)?$")
_TOKEN = "sk-ant-oat"  # noqa: S105 - how tokens of OAuth begin


def read_address(url: str) -> Address:
    """As Anthropic's own clients take it: a base without the version, with it, or the whole call.

    Raises `ValueError` for what is no address.
    """
    found = addresses.read_address(url)
    if found.call is not None:
        return found
    parts = urlsplit(found.base)
    if _VERSIONED.search(parts.path):
        return found
    return found._replace(base=urlunsplit(parts._replace(path=parts.path + "/v1")))


def key_header(url: str, key: str) -> tuple[str, str]:
    """The header that carries a key: one of its own, but for tokens."""
    del url
    return ("Authorization", f"Bearer {key}") if key.startswith(_TOKEN) else ("x-api-key", key)
