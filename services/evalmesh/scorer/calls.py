"""What goes between a pool and its workers: calls there, results back. Data only: nothing is unpickled on either side.

A frame is a header (mark, number of the call, size of the body in bytes) and a body of MessagePack. A worker sends a
frame without a body when it takes a call, and one with the result. Whatever else lies in the pipe is garbage.
"""

import inspect
import struct
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, get_type_hints

import msgspec

HEADER = struct.Struct(">4sII")
MARK = b"em1\n"
MOST_BYTES = 16 << 20
"""Of a result."""


class Call(msgspec.Struct):
    """Please call a function."""

    function: str
    """`module:name`."""
    arguments: msgspec.Raw
    deadline_s: float


class Returned(msgspec.Struct, tag="returned"):
    """It returned this."""

    value: msgspec.Raw


class Raised(msgspec.Struct, tag="raised"):
    """It raised this."""

    kind: str
    message: str
    trace: str


def frame(number: int, body: bytes = b"") -> bytes:
    """A whole frame."""
    return HEADER.pack(MARK, number, len(body)) + body


def path_of(function: Callable[..., object]) -> str:
    """How a worker finds the function. Raises `ValueError` for one that it could not."""
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or getattr(sys.modules.get(module), name, None) is not function:
        raise ValueError(f"{module}:{name} is no top-level function of a module that can be imported")
    return f"{module}:{name}"


@cache
def function_at(path: str) -> Callable[..., object]:
    """The other way round."""
    module, _, name = path.partition(":")
    function: Callable[..., object] = getattr(import_module(module), name)
    return function


@cache
def types_of(function: Callable[..., object]) -> tuple[Any, Any]:
    """Types of its arguments (as a tuple) and of its result. Raises `ValueError` when it does not say them."""
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)
    if missing := [name for name in (*names, "return") if name not in hints]:
        raise ValueError(f"{function.__qualname__} does not say the type of {', '.join(missing)}")
    # Mypy knows no tuples whose types are known at run time.
    return tuple.__class_getitem__(tuple(hints[name] for name in names)), hints["return"]
