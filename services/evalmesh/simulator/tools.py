"""Calls of tools: which one a request demands, and arguments that fit its schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput

_VALUES = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}


@dataclass(frozen=True, slots=True)
class Call:
    """A call, as it goes out."""

    id: str
    name: str
    arguments: str
    """JSON."""

    def as_json(self) -> dict[str, Any]:
        """The entry of `tool_calls`."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def demanded(tools: Sequence[Mapping[str, Any]], choice: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The function that must be called, if one must: the named one, or with `required` the first.

    Raises `InvalidInput` with the sentence the client gets.
    """
    functions = [function for tool in tools if isinstance(function := tool.get("function"), Mapping)]
    if len(functions) < len(tools) or not all(function.get("name") for function in functions):
        raise InvalidInput("Every tool needs a function with a name.", {"field": "tools"})
    if choice in (None, "auto", "none"):
        return None
    if not functions:
        raise InvalidInput("The field tool_choice needs tools.", {"field": "tool_choice"})
    if choice == "required":
        return functions[0]
    wanted = (choice.get("function") or {}).get("name") if isinstance(choice, Mapping) else choice
    for function in functions:
        if function["name"] == wanted:
            return function
    raise InvalidInput(f"tool_choice names {wanted!r}, which is none of the tools.", {"field": "tool_choice"})


def call_of(function: Mapping[str, Any], call_id: str, text: str) -> Call:
    """A call whose arguments fit the function's schema as far as types go; `text` is what texts hold."""
    arguments = _value(function.get("parameters") or {"type": "object"}, text)
    return Call(call_id, str(function["name"]), msgspec.json.encode(arguments).decode())


def _value(schema: Mapping[str, Any], text: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        return {name: _value(one if isinstance(one, Mapping) else {}, text) for name, one in properties.items()}
    return _VALUES.get(str(schema.get("type")), text)
