"""When nobody is there: a closed loop must not turn refusals into an attack, nor a plan into a list of them."""

import asyncio
import time
from collections.abc import Callable

from evalmesh.load.exchange import Exchange
from evalmesh.load.measure.records import OK, Outcome

_NOBODY = frozenset({Outcome.CONNECT, Outcome.CONNECT_TIMEOUT, Outcome.TLS})
_LEAST_IN_A_ROW = 8
_SHARE = 0.1
_SHORTEST_S, _LONGEST_S = 0.01, 1.0
_GIVE_UP_S = 30.0
_NEVER_THERE_S = 10.0


class Outage:
    """Counts what failed without a byte of an answer since the last one that had some.

    A slot that met nobody rests for a tenth of the time since the last sign of life, between 10 ms and 1 s. So long as
    fewer in a row failed than there are slots, and fewer than 8, none rests: a server may refuse now and then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, slots: int, start_s: float) -> None:
        self._loop = loop
        self._enough = max(_LEAST_IN_A_ROW, slots)
        self._alive_s = start_s
        self._was_there = False
        self._in_a_row = 0
        self._why = ""
        self._resting: dict[Exchange, asyncio.TimerHandle] = {}

    def rests(self, ended: Exchange, then: Callable[[str], None]) -> bool:
        """Whether the slot of this exchange rests.

        After that `then` is called, with why a level that ends by its number must be given up, or with nothing.
        """
        if ended.outcome is OK or _met_somebody(ended):
            self._alive_s = max(self._alive_s, ended.end_s)
            self._was_there = True
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        self._why = ended.detail
        if self._in_a_row < self._enough:
            return False
        rest_s = min(_LONGEST_S, max(_SHORTEST_S, _SHARE * (ended.end_s - self._alive_s)))
        self._resting[ended] = self._loop.call_later(rest_s, self._rested, ended, then)
        return True

    def end_rests(self) -> int:
        """Ends all rests; `then` is not called. How many there were."""
        resting, self._resting = self._resting, {}
        for handle in resting.values():
            handle.cancel()
        return len(resting)

    def _rested(self, ended: Exchange, then: Callable[[str], None]) -> None:
        del self._resting[ended]
        gone_s = time.monotonic() - self._alive_s
        is_over = self._in_a_row >= self._enough and gone_s >= (_GIVE_UP_S if self._was_there else _NEVER_THERE_S)
        then(f"nobody answered for {gone_s:.0f} s: {self._why}" if is_over else "")


def _met_somebody(ended: Exchange) -> bool:
    """Whether anybody was there, however badly it ended."""
    return ended.outcome not in _NOBODY and (ended.outcome is not Outcome.RESET or bool(ended.first_byte_s))
