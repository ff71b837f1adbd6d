"""Accepting what a caller asks for exactly once: runs and load tests alike.

The request is bound to an id first, then the record is written, then work is queued. Whoever dies in between is made
up for by the next call with the same request id, at this gateway or another.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from evalmesh.domain.errors import AlreadyExists, NotFound
from evalmesh.gateway.ids import new_id

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Acceptance(Generic[T]):
    """How records of one kind are kept and set going."""

    find_request: Callable[[str], Awaitable[str | None]]
    claim_request: Callable[[str, str], Awaitable[str]]
    get: Callable[[str], Awaitable[T]]
    create: Callable[[T], Awaitable[None]]
    is_fresh: Callable[[T], bool]
    """Whether nobody has begun to work on it."""
    queue: Callable[[T], Awaitable[None]]
    """Publishes the first work item; doing it twice changes nothing."""

    async def known(self, request_id: str) -> T | None:
        """What this request has led to already."""
        id_ = await self.find_request(request_id) if request_id else None
        try:
            record = await self.get(id_) if id_ else None
        except NotFound:
            return None  # Whoever claimed the request has not created its record: then this call does.
        if record is not None and self.is_fresh(record):
            # Whoever created it may have died before it was queued; a second item is dropped or changes nothing.
            await self.queue(record)
        return record

    async def accept(self, request_id: str, now: float, make: Callable[[str], T]) -> T:
        """The record of `make(id)`, written and queued; another call's, if that was quicker with the same request."""
        id_ = new_id(now)
        if request_id:
            id_ = await self.claim_request(request_id, id_)
        record = make(id_)
        try:
            await self.create(record)
        except AlreadyExists:
            record = await self.get(id_)
        await self.queue(record)
        return record
