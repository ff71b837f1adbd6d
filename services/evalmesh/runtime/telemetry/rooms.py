"""Which room is at work: a task inherits it from the one that started it, so nothing has to hand it on."""

from contextvars import ContextVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context

_ROOM: ContextVar[str] = ContextVar("evalmesh_room", default="")


def current_room() -> str:
    """The name of the room that this task works for; empty: a command, and what serves all rooms of a process."""
    return _ROOM.get()


def enter_room(name: str) -> None:
    """From now on this task works for a room."""
    _ROOM.set(name)


def begin_room(name: str) -> None:
    """For the first step of a task that outlives whoever started it: it works for a room, and in nobody's trace."""
    enter_room(name)
    otel_context.attach(Context())
