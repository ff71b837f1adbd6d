"""An item in the hands of a worker, on JetStream."""

import asyncio
import contextlib
from datetime import UTC, datetime

from nats.aio.msg import Msg

from evalmesh.adapters.nats.connection import LostAnswer, NatsConnection
from evalmesh.adapters.nats.streams import nanoseconds
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.work import Item

ANSWER_S = 3.0
_VOID_AFTER_S = 1.0


class NatsDelivery:
    """One item, taken from its queue."""

    __slots__ = ("_breaks", "_connection", "_reply", "_timeout_s", "delivered", "item", "waited_s")

    def __init__(self, connection: NatsConnection, msg: Msg, item: Item, timeout_s: float) -> None:
        self._connection = connection
        self._breaks = connection.breaks
        self._reply = msg.reply
        self._timeout_s = timeout_s
        self.item = item
        self.delivered = msg.metadata.num_delivered
        self.waited_s = max(0.0, (datetime.now(UTC) - msg.metadata.timestamp).total_seconds())

    async def ack(self) -> None:
        await self._settle(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        await self._settle(b'-NAK {"delay": %d}' % nanoseconds(delay_s) if delay_s > 0 else b"-NAK")

    async def heartbeat(self) -> None:
        # Best effort: when it cannot be sent the item comes back to somebody, as after any lost heartbeat.
        with contextlib.suppress(Unavailable):
            await self._connection.publish(self._reply, b"+WPI")

    async def _settle(self, word: bytes) -> None:
        """Until confirmed. A delivery made before the server was killed may be void: then nobody answers.

        nats-server stores deliveries a little later than it makes them; what it has forgotten, it delivers again.
        """
        connection = self._connection
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout_s
        while True:
            await connection.wait_connected(deadline - clock())
            breaks = connection.breaks
            known = breaks == self._breaks
            future = await connection.start(self._reply, word)
            try:
                await connection.settle(future, min(ANSWER_S if known else _VOID_AFTER_S, self._timeout_s))
            except LostAnswer as error:
                if not known and breaks == connection.breaks and not error.missing:
                    raise Unavailable(
                        f"The NATS server has forgotten this delivery of {self.item.id}; the item comes back."
                    ) from error
                await connection.recover(error, deadline)
            else:
                return
