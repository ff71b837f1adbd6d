"""Questions between processes that are at work on the same thing: answered now or not at all, never kept."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

SignalHandler = Callable[[bytes], Awaitable[bytes]]


class Signals(Protocol):
    """Request and reply on the bus. Subjects come from `wire.subjects`."""

    async def ask(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        """The answer of whoever answers there.

        While the server is away the question waits, and one whose answer was lost with the connection is asked
        again: a handler may see it twice. Raises what the handler raised, and `Unavailable` when nobody answers in
        time; at once when nobody is there to answer.
        """
        ...

    def answer(
        self, subject: str, handler: SignalHandler, *, settled: bool = True
    ) -> AbstractAsyncContextManager[None]:
        """Answers every question there until the block ends, each in a task of its own, so that one may wait.

        `settled`: the block begins when the server knows of it, and is over when it does; else that may take a moment.

        An `EvalmeshError` of the handler is raised where it was asked; any other exception is an `InternalError`
        there and logged here. Goes on by itself after the server was away. Whoever is still waiting for an answer
        when the block ends gets `Unavailable`.
        """
        ...
