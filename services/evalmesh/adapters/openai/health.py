"""Whether an endpoint is there: while it is not, nothing is asked of it but one small question now and then.

Times are of the monotonic clock, in seconds.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from evalmesh.adapters.openai.errors import Failure
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.ports.endpoint import EndpointGone

_log = logging.getLogger(__name__)

_AWAY = frozenset({429, 502, 503, 504, 529})
_LONG_WAIT_S = 10.0
"""Who is asked to wait so long is told."""
_SAID_AFTER_S = 1.0
"""A shorter outage is not worth a word."""
Look = Callable[[float], Awaitable[Failure | None]]
"""Asks something small, within so many seconds; `None` when that is answered."""


def is_away(failure: Failure) -> bool:
    """Whether it may mean that the endpoint answers nobody, or that it is nobody's turn."""
    if failure.short_of_files or not failure.retryable:
        return False
    return failure.error_class in {"connect", "reset", "timeout"} or failure.http_status in _AWAY


@dataclass(frozen=True, slots=True)
class Doubt:
    """A request that failed in a way for which `is_away` holds."""

    failure: Failure
    sent_at: float
    """Others that were answered since tell that the server is there."""
    last: bool
    """There is no other try, so that it must be known."""
    left_s: Callable[[], float]
    """How long the request can wait, by `Health.clock`."""


class _Outage:
    """One time during which nothing is asked but by the looker."""

    __slots__ = ("confirmed", "failure", "looking", "marked", "once", "over", "since")

    def __init__(self, failure: Failure | None, *, once: bool) -> None:
        self.once = once
        """It is looked no more than once."""
        self.since = self.marked = time.monotonic()
        self.failure = failure
        self.confirmed = failure is not None and failure.error_class == "connect"
        """Whether a look has failed, or none is needed to know."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.looking: asyncio.Task[None] | None = None

    @property
    def asks_to_wait(self) -> bool:
        """The server is there and puts everybody off."""
        return self.failure is not None and self.failure.http_status == 429

    @property
    def words(self) -> str:
        """What the server does."""
        return "has put every request off" if self.asks_to_wait else "has not answered"


class Health:
    """Keeps requests back during an outage, and looks after its end.

    An outage is no failure of the requests it meets: they wait, and none of their tries or time is spent. It ends with
    the first answer, or after `patience_s` for good, with `EndpointGone` for whoever waits.
    """

    def __init__(
        self, where: str, look: Look, policy: RetryPolicy, patience_s: float, ended: Callable[[], None]
    ) -> None:
        """`ended` is called after each outage, however it ended."""
        self._where = where
        self._look = look
        self._ended = ended
        self._policy = policy
        self._patience_s = patience_s
        self._rng = Random()  # noqa: S311 - spreads looks, guards nothing
        self._answered_at = float("-inf")
        self._in_a_row = 0
        """Failures that look like an outage, since anything was answered."""
        self._outage: _Outage | None = None
        self._gone = ""
        """Why it was given up."""
        self._stood_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether nothing should be sent now."""
        return self._outage is not None or bool(self._gone)

    @property
    def trouble(self) -> str:
        """The outage in a sentence for whoever watches; empty when all is well."""
        outage = self._outage
        if outage is None or outage.failure is None:
            return ""
        lasted_s = time.monotonic() - outage.since
        if lasted_s < _SAID_AFTER_S:
            return ""
        left = duration_text(max(0.0, self._patience_s - lasted_s))
        why = outage.failure.message.rstrip(".")
        if (asked_s := outage.failure.retry_after_s) is not None and asked_s >= _SAID_AFTER_S:
            why += f"; it asks to wait {duration_text(asked_s)}"
        return f"{self._where} {outage.words} for {duration_text(lasted_s)}, trying again for {left} more: {why}"

    def clock(self) -> float:
        """Time as requests have it: it stands still in an outage, but not while the server puts them off."""
        if self._outage is not None:
            self._mark(self._outage)
        return time.monotonic() - self._stood_s

    def _mark(self, outage: _Outage) -> None:
        now = time.monotonic()
        if not outage.asks_to_wait:
            self._stood_s += now - outage.marked
        outage.marked = now

    def answered(self) -> None:
        """The server was there, whatever it said."""
        self._answered_at = time.monotonic()
        self._in_a_row = 0
        self._gone = ""
        self._end()

    def begin_with_a_look(self) -> None:
        """The first request waits until something small was answered."""
        if self._outage is None:
            self._start(None, 0.0)

    def again(self) -> None:
        """Somebody else wants it: an endpoint that was given up is looked at once more."""
        if self._gone:
            self._start(None, 0.0, once=True)

    async def was_away(self, doubt: Doubt) -> bool:
        """Whether a failed request met an outage, and is not to blame; waits for its end.

        Raises:
            EndpointGone: The outage did not end in time.
        """
        failure = doubt.failure
        if self._answered_at >= doubt.sent_at:
            return False
        self._in_a_row += 1
        nobody_there = failure.error_class == "connect"
        put_off = self._asked_s(failure) >= _LONG_WAIT_S
        sure = nobody_there or put_off or doubt.last or self._in_a_row >= self._policy.outage_failures
        if not (sure or self.waits):
            return False
        if not self.waits:
            soon_s = self._rng.uniform(0.0, self._policy.base_delay_s / 2)
            self._start(failure, max(soon_s, self._asked_s(failure)))
        outage = self._outage
        await self.back(doubt.left_s)
        return nobody_there or (outage is not None and outage.confirmed)

    async def back(self, left_s: Callable[[], float] | None = None) -> bool:
        """Waits for the end of the outage; `False` once `left_s` tells that no time is left. Raises `EndpointGone`."""
        while (outage := self._outage) is not None:
            timeout_s = None if left_s is None else left_s()
            if timeout_s is not None and timeout_s <= 0:
                return False
            await asyncio.wait((outage.over,), timeout=timeout_s)
        if self._gone:
            raise EndpointGone(self._gone)
        return True

    async def close(self) -> None:
        """Ends the looking."""
        outage = self._outage
        self._end()
        if outage is not None and outage.looking is not None:
            await asyncio.gather(outage.looking, return_exceptions=True)

    def _asked_s(self, failure: Failure) -> float:
        return min(failure.retry_after_s or 0.0, self._policy.max_retry_after_s)

    def _start(self, failure: Failure | None, delay_s: float, *, once: bool = False) -> None:
        self._outage = outage = _Outage(failure, once=once)
        outage.looking = asyncio.create_task(self._look_until_back(outage, delay_s))

    def _end(self) -> None:
        outage, self._outage = self._outage, None
        if outage is None:
            return
        self._mark(outage)
        if not outage.over.done():
            outage.over.set_result(None)
        if outage.looking is not None and outage.looking is not asyncio.current_task():
            outage.looking.cancel()
        if outage.confirmed and not self._gone:
            _log.warning("%s is back after %.1f s", self._where, time.monotonic() - outage.since)
        self._ended()

    async def _look_until_back(self, outage: _Outage, delay_s: float) -> None:
        looks = 0
        at_start = outage.failure is None
        while True:
            left_s = outage.since + self._patience_s - time.monotonic()
            if left_s <= 0:
                self._give_up(outage)
                return
            await asyncio.sleep(min(delay_s, left_s))
            failure = await self._look(self._policy.probe_timeout_s * 2.0 ** min(looks, 20))
            looks += 1
            slow = at_start and failure is not None and failure.error_class == "timeout"
            if failure is None or not is_away(failure) or slow:
                if not slow:
                    self._answered_at = time.monotonic()
                self._in_a_row, self._gone = 0, ""
                self._end()
                return
            if looks == 1:
                _log.warning("%s is away: %s", self._where, failure.message)
            self._mark(outage)
            outage.failure, outage.confirmed = failure, True
            if outage.once:
                self._end()  # It is as gone as it was.
                return
            delay_s = max(self._policy.probe_delay_s(looks, self._rng), self._asked_s(failure))

    def _give_up(self, outage: _Outage) -> None:
        lasted = duration_text(time.monotonic() - outage.since)
        why = outage.failure.message if outage.failure is not None else ""
        self._gone = f"{self._where} {outage.words} for {lasted}, as long as --outage-timeout waits. {why}"
        _log.error("%s", self._gone)
        self._end()


def duration_text(seconds: float) -> str:
    """`12 s`, `3 min`, `4 min 30 s`, `24 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(whole / 60), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
