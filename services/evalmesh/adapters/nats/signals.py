"""Signals as plain request and reply: nothing is stored, and a stream is not involved."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import nats.errors
from nats.aio.msg import Msg

from evalmesh.adapters.nats.connection import LostAnswer, NatsConnection
from evalmesh.domain.errors import EvalmeshError, InternalError, Unavailable
from evalmesh.ports.signals import SignalHandler
from evalmesh.wire.errors import error_class
from evalmesh.wire.messages import cut_error

_log = logging.getLogger(__name__)

_REASON = "Evalmesh-Reason"
"""Header of an answer that is an error; its body is the message."""
_FLUSH_S = 2
_OTHERS_BACK_S = 2.0
"""Whoever was connected when the server broke is back within this time after us."""


class NatsSignals:
    """See `ports.signals.Signals`."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def ask(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        connection = self._connection
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        while True:
            await connection.wait_connected(deadline - clock())
            breaks = connection.breaks
            future = await connection.start(subject, body)
            try:
                return _content(await connection.settle(future, max(0.0, deadline - clock())))
            except LostAnswer as lost:
                # After a break the other side may be back a moment later than this one.
                settled = not lost.missing or clock() > connection.back_at + _OTHERS_BACK_S
                if connection.breaks == breaks and settled:
                    why = "nobody is there" if lost.missing else f"no answer within {timeout_s:g} s"
                    raise Unavailable(f"The question to {subject} was not answered: {why}.") from lost
                await connection.recover(lost, deadline, restore=False)
            finally:
                future.cancel()

    def answer(
        self, subject: str, handler: SignalHandler, *, settled: bool = True
    ) -> AbstractAsyncContextManager[None]:
        return self._answer(subject, handler, settled=settled)

    @asynccontextmanager
    async def _answer(self, subject: str, handler: SignalHandler, *, settled: bool) -> AsyncIterator[None]:
        tasks: set[asyncio.Task[None]] = set()

        async def on_question(msg: Msg) -> None:
            task = asyncio.create_task(self._reply(msg, handler))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        client = self._connection.client
        try:
            # nats-py subscribes again by itself whenever it has connected again.
            subscription = await client.subscribe(subject, cb=on_question)
        except nats.errors.Error as error:
            raise Unavailable(f"Questions to {subject} cannot be answered: {error}.") from error
        try:
            if settled:
                # Who asks from now on must find somebody there.
                await self._flush()
            yield
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
            pending = tuple(tasks)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            if settled:
                # And from now on nobody: a question that the server still sent here would wait in vain.
                await self._flush()

    async def _flush(self) -> None:
        """Returns once the server knows what was subscribed and unsubscribed; at once while it is away."""
        client = self._connection.client
        with contextlib.suppress(nats.errors.Error, OSError):
            # nats-py's ping overtakes commands that wait to be written; they are written before a second one.
            for _ in range(2):
                if client.is_connected:
                    await self._connection.round_trip(_FLUSH_S)

    async def _reply(self, msg: Msg, handler: SignalHandler) -> None:
        try:
            answer = await handler(msg.data)
        except EvalmeshError as error:
            await self._send(msg, error.message, error.reason)
        except asyncio.CancelledError:
            await self._send(msg, f"Who answered questions to {msg.subject} has left.", Unavailable.reason)
            raise
        except Exception as error:  # noqa: BLE001  (a defect is logged here and told to who asked)
            _log.exception("a question to %s failed", msg.subject)
            text = f"The question to {msg.subject} hit a defect ({type(error).__name__}); see the log of who answers."
            await self._send(msg, text, InternalError.reason)
        else:
            await self._send(msg, answer)

    async def _send(self, question: Msg, answer: bytes | str, reason: str = "") -> None:
        body = cut_error(answer).encode() if isinstance(answer, str) else answer
        try:
            await self._connection.publish(question.reply, body, {_REASON: reason} if reason else None)
        except Unavailable as error:
            _log.debug("answer to %s dropped: %s", question.subject, error)


def _content(msg: Msg) -> bytes:
    reason = (msg.headers or {}).get(_REASON)
    if reason is None:
        return msg.data
    raise error_class(reason)(msg.data.decode(errors="replace"))
