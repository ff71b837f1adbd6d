"""The pairs of processes a service has: started ahead, used again, replaced when broken."""

import asyncio
import logging

from evalmesh.load_generator.seat.pair import GeneratorPair

_LOG = logging.getLogger(__name__)


class PairPool:
    """Gives pairs out; at most as many are out at once as there are seats."""

    def __init__(self) -> None:
        self._idle: list[GeneratorPair] = []
        self._starting: set[asyncio.Task[GeneratorPair]] = set()
        self._out: set[GeneratorPair] = set()

    def warm(self, count: int) -> None:
        """Begins to start pairs, so that `take` need not wait."""
        for _ in range(count - len(self._idle) - len(self._starting)):
            self._starting.add(asyncio.create_task(_started()))

    async def take(self) -> GeneratorPair:
        """A pair whose processes run."""
        pair = await self._next()
        self._out.add(pair)
        return pair

    async def _next(self) -> GeneratorPair:
        while self._idle:
            pair = self._idle.pop()
            if pair.alive:
                return pair
            await pair.close()
        if self._starting:
            return await self._starting.pop()
        return await _started()

    async def give_back(self, pair: GeneratorPair) -> None:
        """For the next one, if it is still good."""
        self._out.discard(pair)
        if pair.alive and not pair.busy:
            self._idle.append(pair)
        else:
            await pair.close()

    async def close(self) -> None:
        """Ends all processes."""
        started = await asyncio.gather(*self._starting, return_exceptions=True)
        pairs = [one for one in started if isinstance(one, GeneratorPair)]
        await asyncio.gather(*(pair.close() for pair in (*self._idle, *self._out, *pairs)))
        self._idle.clear()
        self._starting.clear()
        self._out.clear()


async def _started() -> GeneratorPair:
    pair = GeneratorPair()
    await pair.start()
    _LOG.info("generator processes %s started", pair.pids)
    return pair
