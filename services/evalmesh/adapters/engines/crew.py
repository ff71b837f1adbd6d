"""The copies of one model: who is asked what, and what becomes of requests when a copy dies.

A death is nobody's fault until it happens again: what was in flight is asked again, together, then in small company,
then alone. A request that ends the engine twice while nothing else is in flight is answered with the error; it cannot
take more with it than that. Meanwhile the other copies go on.
"""

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from evalmesh.adapters.engines.engine import EngineRequest
from evalmesh.adapters.engines.protocol import Opened
from evalmesh.adapters.engines.replica import KILLED, EngineDiedError, Replica
from evalmesh.domain.completion import Completion, CompletionError, as_sentence
from evalmesh.domain.errors import EvalmeshError, FailedPrecondition
from evalmesh.ports.endpoint import EndpointGone, Occupancy

_LOG = logging.getLogger(__name__)
_SUSPECT = 2
"""Deaths after which a request is asked in small company only."""
_SMALL_COMPANY = 8
_ALONE_TWICE = 2
_MOST_BARREN = 10
"""A copy that dies so often in a row, nothing being answered in between, is given up."""
_STARTS = 3
"""So often a model is loaded whose process is killed on the way."""
_LEAST_LIMIT = 16
_LONGEST_PAUSE_S = 10.0
_TOLD_S = 20.0
"""A note is told for so long among what requests wait for."""


@dataclass(slots=True, eq=False)
class _Waiter:
    ticket: int
    deaths: int
    """That it was in flight at."""
    seated: "asyncio.Future[_Seat]"

    @property
    def suspect(self) -> bool:
        return self.deaths >= _SUSPECT

    @property
    def company(self) -> int:
        """How many may be in flight with a suspect, itself included."""
        return _SMALL_COMPANY if self.deaths == _SUSPECT else 1

    def __lt__(self, other: "_Waiter") -> bool:
        return (-self.deaths, self.ticket) < (-other.deaths, other.ticket)


@dataclass(slots=True, eq=False)
class _Seat:
    """One copy, and what it is asked now."""

    replica: Replica
    up: bool = False
    asked: dict[int, _Waiter] = field(default_factory=dict)
    """By ticket."""
    suspects: int = 0
    barren: int = 0
    """Deaths since something was answered."""
    lost: str = ""
    """Why it is not started again."""

    def takes(self, waiter: _Waiter, limit: int) -> bool:
        """Whether one more may come. Suspects are among themselves: who is with them at a death becomes one."""
        count = len(self.asked)
        if not self.up or count >= limit:
            return False
        if not waiter.suspect:
            return not self.suspects
        return self.suspects == count and count < min(one.company for one in (waiter, *self.asked.values()))


class Crew:
    """Copies that are started together on first need, and kept."""

    def __init__(
        self,
        model: str,
        replicas: Callable[[Callable[[str], None]], Sequence[Replica]],
        limit: int,
        before: Callable[[Callable[[str], None]], Awaitable[None]],
    ) -> None:
        """`limit`: the most requests in flight in one copy. `before`: awaited before anything is started.

        It may tell how far it has come.
        """
        self.model = model
        self._seats = [_Seat(replica) for replica in replicas(self._noted)]
        self._limit = limit
        self._before = before
        self.opened: Opened | None = None
        """What the first copy said, once all are there."""
        self.notes: list[str] = []
        """What was told while it opened."""
        self.outage_s = 600.0
        """So long a copy that cannot be started again is tried."""
        self._opening: asyncio.Task[Opened] | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._tickets = count()
        self._line: deque[_Waiter] = deque()
        self._suspects: list[_Waiter] = []
        self._told = ""
        self._progress = ""
        """How much of the model has been fetched, while it is."""
        self._told_at = float("-inf")
        self._dead = ""
        """How the last one ended, while a copy is started again."""
        self._closed = False

    @property
    def load(self) -> Occupancy:
        """Of all copies."""
        there = sum(not seat.lost for seat in self._seats) or 1
        # What is taken for a model that is not loaded yet, other runners cannot do meanwhile.
        limit = self._limit if self.opened is not None else min(self._limit, _LEAST_LIMIT)
        return Occupancy(sum(len(seat.asked) for seat in self._seats), limit * there)

    @property
    def trouble(self) -> str:
        """See `Endpoint`."""
        if self._opening is not None and not self._opening.done():
            return f"The model {self.model} is being loaded{f': {self._progress}' if self._progress else ''}."
        if not any(seat.up for seat in self._seats) and self._dead:
            return f"{self._dead} It is being started again."
        return self._told if time.monotonic() - self._told_at < _TOLD_S else ""

    @property
    def pids(self) -> Sequence[int]:
        """Of the processes that run."""
        return [pid for seat in self._seats if (pid := seat.replica.pid) is not None]

    def _came(self, progress: str) -> None:
        self._progress = progress

    def _noted(self, sentence: str) -> None:
        _LOG.warning("%s: %s", self.model, sentence)
        if self.opened is None:
            if sentence not in self.notes:
                self.notes.append(sentence)
        else:
            self._told, self._told_at = as_sentence(sentence), time.monotonic()

    async def open(self) -> Opened:
        """Loads the model, once for all callers; one that goes away ends nothing. Raises what `Replica.start` does."""
        if self.opened is not None:
            return self.opened
        if self._opening is None:
            self.notes.clear()
            self._opening = asyncio.create_task(self._open(), name=f"open-{self.model}")
            self._opening.add_done_callback(_look_at)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except EvalmeshError:
            # Told; who comes now wants it to be tried again.
            if self._opening is opening:
                self._opening = None
            raise

    async def _open(self) -> Opened:
        await self._before(self._came)
        self._progress = ""
        starts = [asyncio.create_task(_started(seat.replica)) for seat in self._seats]
        try:
            opened = (await asyncio.gather(*starts))[0]
        except BaseException:
            for one in starts:
                one.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await asyncio.gather(*(seat.replica.close() for seat in self._seats))
            raise
        for seat in self._seats:
            seat.up = True
            self._keeping.append(asyncio.create_task(self._keep(seat, opened), name=f"keep-{self.model}"))
        self.opened = opened
        # Two batches: one that is worked on, and one to choose the next from.
        self._limit = min(self._limit, max(2 * opened.capabilities.preferred_batch, _LEAST_LIMIT))
        self._admit()
        return opened

    async def _keep(self, seat: _Seat, opened: Opened) -> None:
        while True:
            how = await seat.replica.serve()
            seat.up = False
            if self._closed:
                return
            seat.barren += 1
            self._dead = how
            _LOG.warning("%s: %s; starting it again", self.model, how.rstrip("."))
            if seat.barren >= _MOST_BARREN:
                self._lose(seat, f"{how} It has ended {seat.barren} times in a row without one answer.")
                return
            if not await self._start_again(seat, opened):
                return
            seat.up = True
            self._admit()

    async def _start_again(self, seat: _Seat, opened: Opened) -> bool:
        clock = asyncio.get_running_loop().time
        began, failures = clock(), 0
        while True:
            try:
                again = await seat.replica.start()
            except EvalmeshError as error:
                _LOG.warning("%s: %s", self.model, error.message)
                self._dead = error.message
                failures += 1
                pause_s = min(0.25 * 2**failures, _LONGEST_PAUSE_S)
                if clock() + pause_s - began > self.outage_s:
                    self._lose(seat, error.message)
                    return False
                await asyncio.sleep(pause_s)
                continue
            if again.capabilities.weights != opened.capabilities.weights:
                await seat.replica.close()
                self._lose(seat, f"The files of the model {self.model} have changed since it was loaded.")
                return False
            return True

    def _lose(self, seat: _Seat, why: str) -> None:
        seat.lost = why
        if not self._closed:
            _LOG.error("%s: given up: %s", self.model, why)
        if all(one.lost for one in self._seats):
            gone = EndpointGone(f"The engine of {self.model} cannot go on. {why}")
            for waiter in (*self._line, *self._suspects):
                if not waiter.seated.done():
                    waiter.seated.set_exception(gone)
            self._line.clear()
            self._suspects.clear()

    def renew(self) -> None:
        """Lets it be tried again when all copies were given up."""
        if self.opened is not None and all(seat.lost for seat in self._seats):
            self._seats = [_Seat(seat.replica) for seat in self._seats]
            self.opened = self._opening = None
            self._dead = ""

    async def answer(self, question: EngineRequest) -> Completion:
        """Waits for a place, asks, and asks again after a death. Raises `EndpointGone`, `InvalidInput`."""
        request, tries, deaths, alone = question.request, 0, 0, 0
        while True:
            seat, ticket = await self._enter(deaths)
            tries += 1
            try:
                completion = await seat.replica.ask(question)
            except EngineDiedError as died:
                deaths += 1
                alone += died.alone
                if alone >= _ALONE_TWICE:
                    seat.barren = 0
                    message = f"This request alone ended the engine twice. {died.how}"
                    error = CompletionError("server", message)
                    return Completion(request.sample_id, request.repeat, request.digest, tries=tries, error=error)
            else:
                seat.barren = 0
                return completion if tries == 1 else replace(completion, tries=tries)
            finally:
                self._leave(seat, ticket)

    async def _enter(self, deaths: int) -> tuple[_Seat, int]:
        try:
            await self.open()
        except EvalmeshError as error:
            raise EndpointGone(error.message) from error
        if all(seat.lost for seat in self._seats):
            raise EndpointGone(f"The engine of {self.model} cannot go on. {self._seats[0].lost}")
        waiter = _Waiter(next(self._tickets), deaths, asyncio.get_running_loop().create_future())
        if waiter.suspect:
            heapq.heappush(self._suspects, waiter)
        elif deaths:
            self._line.appendleft(waiter)
        else:
            self._line.append(waiter)
        self._admit()
        try:
            return await waiter.seated, waiter.ticket
        except asyncio.CancelledError:
            if waiter.seated.done() and not waiter.seated.cancelled() and waiter.seated.exception() is None:
                self._leave(waiter.seated.result(), waiter.ticket)
            raise

    def _leave(self, seat: _Seat, ticket: int) -> None:
        seat.suspects -= seat.asked.pop(ticket).suspect
        self._admit()

    def _admit(self) -> None:
        """Seats those who wait: suspects first, each of which keeps others away from a copy until it has come to it."""
        free = self._seat_suspects()
        while self._line:
            waiter = self._line[0]
            if not waiter.seated.done():
                seats = [seat for seat in free if seat.takes(waiter, self._limit)]
                if not seats:
                    return
                self._place(waiter, min(seats, key=lambda seat: len(seat.asked)))
            self._line.popleft()

    def _seat_suspects(self) -> list[_Seat]:
        """Returns the copies that are left for all others."""
        free, left = list(self._seats), []
        while self._suspects:
            waiter = heapq.heappop(self._suspects)
            if waiter.seated.done():
                continue
            seats = [seat for seat in free if seat.takes(waiter, self._limit)]
            if seats:
                self._place(waiter, min(seats, key=lambda seat: len(seat.asked)))
                continue
            left.append(waiter)
            if kept := [seat for seat in free if seat.up]:
                free.remove(min(kept, key=lambda seat: len(seat.asked)))
        self._suspects = left  # in order, so it is a heap
        return free

    @staticmethod
    def _place(waiter: _Waiter, seat: _Seat) -> None:
        seat.asked[waiter.ticket] = waiter
        seat.suspects += waiter.suspect
        waiter.seated.set_result(seat)

    async def close(self) -> None:
        """Ends the processes. What is still asked ends as if they had died for good."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await asyncio.gather(*(seat.replica.close() for seat in self._seats))
        for one in self._keeping:
            one.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        for seat in self._seats:
            seat.up = False
            self._lose(seat, "It was closed.")


def _look_at(opening: "asyncio.Task[Opened]") -> None:
    """So that nobody is told that nobody looked: whoever asks next does."""
    if not opening.cancelled():
        opening.exception()


async def _started(replica: Replica) -> Opened:
    """See `Replica.start`. What kills a process while it loads does so again if the model is to blame."""
    for _ in range(_STARTS - 1):
        try:
            return await replica.start()
        except FailedPrecondition as error:
            if KILLED not in error.details:
                raise
            _LOG.warning("%s It is started again.", error.message)
    return await replica.start()
