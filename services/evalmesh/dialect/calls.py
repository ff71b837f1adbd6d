"""Calls of tools, whole or in pieces. Servers differ in all of it: index, id, and the type of the arguments."""

from collections.abc import Iterable, Mapping
from typing import Any

from evalmesh.dialect.loose import count_of, json_text_of, mapping_of, mappings_of, whole
from evalmesh.dialect.shapes import Message
from evalmesh.domain.content import ToolCall

Piece = Mapping[str, Any]
"""A call, or a piece of one, as it came."""


def pieces_in(message: Message) -> list[Piece]:
    """What one message or one chunk says about calls, in the older form too."""
    if message.tool_calls:
        return mappings_of(message.tool_calls)
    return [{"function": one} for one in mappings_of(message.function_call)]


def _function(piece: Piece) -> Piece:
    # Some servers leave the box out: {"name": ..., "arguments": ...}.
    return mapping_of(piece.get("function")) or piece


def name_and_arguments(piece: Piece) -> str:
    """All that a piece says, as one text: what a load test counts."""
    function = _function(piece)
    name = function.get("name")
    return (name if isinstance(name, str) else "") + json_text_of(function.get("arguments"))


class _Open:
    """A call that is being put together."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class CallBuilder:
    """Puts calls together from whole ones or from pieces.

    Pieces belong together by index. Where a server sends no index, or one index for all, a new id begins a new call.
    """

    __slots__ = ("_at", "_calls", "held")

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._at: dict[int, _Open] = {}
        self.held = 0
        """Characters of arguments up to now."""

    def add(self, pieces: Iterable[Piece]) -> None:
        """Takes what one message or one chunk says about calls."""
        for piece in pieces:
            function = _function(piece)
            call = self._belongs_to(count_of(piece.get("index")), _id(piece))
            call.id = call.id or _id(piece)
            name = function.get("name")
            call.name = call.name or (name if isinstance(name, str) else "")
            arguments = json_text_of(function.get("arguments"))
            call.arguments.append(arguments)
            self.held += len(arguments)

    def _belongs_to(self, index: int | None, given_id: str) -> _Open:
        last = self._calls[-1] if self._calls else None
        call = last if index is None else self._at.get(index)
        if call is not None and not (given_id and call.id and given_id != call.id):
            return call
        call = _Open()
        self._calls.append(call)
        if index is not None:
            self._at[index] = call
        return call

    def calls(self) -> tuple[ToolCall, ...]:
        """All of them, in the order in which they began."""
        return tuple(ToolCall(call.id, call.name, whole("".join(call.arguments))) for call in self._calls)


def whole_calls(pieces: Iterable[Piece]) -> tuple[ToolCall, ...]:
    """Calls of an answer that was not streamed; each stands for itself."""
    found = []
    for piece in pieces:
        function = _function(piece)
        name = function.get("name")
        if "function" in piece or name:
            name = name if isinstance(name, str) else ""
            found.append(ToolCall(_id(piece), name, whole(json_text_of(function.get("arguments")))))
    return tuple(found)


def _id(piece: Piece) -> str:
    found = piece.get("id")
    return "" if found is None or isinstance(found, list | dict) else str(found)
