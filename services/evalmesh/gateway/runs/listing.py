"""Pages of runs, of all or of those that are meant."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from evalmesh.domain.errors import NotFound
from evalmesh.domain.run import Run
from evalmesh.domain.run_filter import RunFilter
from evalmesh.ports.run_store import RunStore
from evalmesh.wire.paging import decode_token, encode_token, page_size

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Page:
    """One page, newest first."""

    runs: Sequence[Run]
    token: str
    """Of the next page; empty on the last one."""
    total: int
    """Runs on all pages together."""
    query: str = ""
    """What its tokens belong to."""


@dataclass(frozen=True, slots=True)
class RunListing:
    """Looks through the records, newest first."""

    store: RunStore
    get: Callable[[str], Awaitable[Run]]

    async def page(self, where: RunFilter, size: int, token: str) -> Page:
        """Raises `InvalidInput` for a token of another query."""
        size = page_size(size, 50, 1000)
        query = "" if where == RunFilter() else str(where)
        after = decode_token(token, query)
        ids = await self.store.list_ids()
        if not query:
            wanted = [id_ for id_ in ids if after is None or id_ < str(after)]
            runs = [run async for run in self._read(wanted[:size])]
            return Page(runs, encode_token(wanted[size - 1]) if len(wanted) > size else "", len(ids))
        found: list[Run] = []
        total = left = 0
        async for run in self._read(ids):
            if not where.matches(run):
                continue
            total += 1
            if after is not None and run.id >= str(after):
                continue
            left += 1
            if len(found) < size:
                found.append(run)
        return Page(found, encode_token(found[-1].id, query) if left > size else "", total, query)

    async def _read(self, ids: Sequence[str]) -> AsyncIterator[Run]:
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            for run in await asyncio.gather(*map(self.get, some), return_exceptions=True):
                if isinstance(run, Run):
                    yield run
                elif not isinstance(run, NotFound):  # deleted since the ids were read
                    raise run
