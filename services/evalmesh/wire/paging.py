"""Pagination as the AIPs want it: sizes are capped, tokens are opaque and belong to one query."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from evalmesh.domain.errors import InvalidInput

M = TypeVar("M", bound=Message)

PAGE_BYTES = 4 << 20
"""A page ends here, whatever its number of entries; one has at least one entry."""


def page_size(asked: int, default: int, maximum: int) -> int:
    """The size to use: 0 means the default, more than the maximum means the maximum. Raises `InvalidInput` below 0."""
    if asked < 0:
        raise InvalidInput(
            f"page_size: {asked} is negative; use 0 for the default of {default}.", {"field": "page_size"}
        )
    return min(asked or default, maximum)


def encode_token(position: str | int, query: str = "") -> str:
    """A token for the page that starts at `position`; `query` says what was asked, so that tokens are not mixed up."""
    return base64.urlsafe_b64encode(json.dumps([position, query]).encode()).decode().rstrip("=")


def decode_token(token: str, query: str = "") -> str | int | None:
    """The position behind a token; `None` for the first page. Raises `InvalidInput` for a token of another query."""
    if not token:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if isinstance(value, list) and len(value) == 2 and value[1] == query and isinstance(value[0], (str, int)):
        return value[0]
    raise _foreign_token()


def decode_offset(token: str, query: str = "") -> int:
    """The row behind a token; 0 for the first page. Raises `InvalidInput` like `decode_token`."""
    return decode_position(token, query) or 0


def decode_position(token: str, query: str = "") -> int | None:
    """The number behind a token; `None` for the first page. Raises `InvalidInput` like `decode_token`."""
    position = decode_token(token, query)
    if position is None or (isinstance(position, int) and 0 <= position < 2**63):
        return position
    raise _foreign_token()


def newest_first(ids: Sequence[str], size: int, token: str) -> tuple[Sequence[str], str]:
    """Ids of one page, and the token of the next one; empty on the last page.

    Ids sort by time; a page goes on below the last id of the one before.
    """
    size = page_size(size, 50, 1000)
    after = decode_token(token)
    wanted = [id_ for id_ in ids if after is None or id_ < str(after)]
    return wanted[:size], encode_token(wanted[size - 1]) if len(wanted) > size else ""


async def cut_page(
    ids: Sequence[str], token: str, get: Callable[[str], Awaitable[M]], query: str = ""
) -> tuple[list[M], str]:
    """The messages of a page as far as one answer holds them, and the token of what follows them."""
    found: list[M] = []
    size_bytes = 0
    for id_ in ids:
        message = await get(id_)
        size_bytes += message.ByteSize()
        if found and size_bytes > PAGE_BYTES:
            return found, encode_token(ids[len(found) - 1], query)
        found.append(message)
    return found, token


def _foreign_token() -> InvalidInput:
    return InvalidInput(
        "page_token: this token does not belong to this query; pass the `next_page_token` of the previous page with "
        "the same filters, or leave it empty to start again.",
        {"field": "page_token"},
    )
