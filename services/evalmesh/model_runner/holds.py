"""One shard, one runner: who works on a shard says so when asked.

The queue alone does not ensure it: a nats-server that is killed may forget what it handed out a moment ago, and hand it
out again while the first runner asks its requests, which would then be paid for twice.
"""

import asyncio
from contextlib import AbstractAsyncContextManager

from evalmesh.domain.errors import Unavailable
from evalmesh.domain.work import WorkItem
from evalmesh.ports.signals import Signals
from evalmesh.wire.subjects import held_subject

_ANSWER_S = 2.0
"""A runner that hangs for longer is taken for gone."""
_AGAIN_S = 0.5


class Holds:
    """What the runners of a pool have in hand."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    async def wait_free(self, item: WorkItem) -> None:
        """Returns when no runner works on the shard."""
        while True:
            try:
                await self._signals.ask(held_subject(item), b"", _ANSWER_S)
            except Unavailable:
                return
            await asyncio.sleep(_AGAIN_S)

    def hold(self, item: WorkItem) -> AbstractAsyncContextManager[None]:
        """This runner works on the shard while the block lasts."""
        return self._signals.answer(held_subject(item), _held, settled=False)


async def _held(_: bytes) -> bytes:
    return b""
