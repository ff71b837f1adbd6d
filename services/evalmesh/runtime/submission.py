"""Changing the record of a run or load test, and whether what it asks for is still wanted."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from evalmesh.domain.errors import NotFound
from evalmesh.domain.events import Event
from evalmesh.domain.state import Submission
from evalmesh.domain.work import Item
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.records import RecordStore
from evalmesh.runtime.records import change_record

T = TypeVar("T", bound=Submission[Any])


@dataclass(frozen=True, slots=True)
class RecordBook(Generic[T]):
    """The records of one kind, and who is told of changes."""

    store: RecordStore[T]
    bus: Bus
    clock: Clock

    async def get(self, id_: str) -> T:
        """Raises `NotFound`."""
        return (await self.store.get(id_)).value

    async def create(self, record: T) -> None:
        """Raises `AlreadyExists`."""
        await self.store.create(replace(record, change_time=record.create_time))

    async def change(self, id_: str, change: Callable[[T], T]) -> T:
        """Applies `change` to the newest record; one that returns its argument writes nothing. Raises `NotFound`."""

        def timed(known: T) -> T:
            changed = change(known)
            return changed if changed.state is known.state else replace(changed, change_time=self.clock.now())

        return await change_record(
            lambda: self.store.get(id_),
            self.store.update,
            timed,
            lambda: self.bus.emit(Event(run=id_, kind="state", source="record", time=self.clock.now())),
        )

    async def fail(self, id_: str, error: str, reason: str) -> T:
        """Ends it as FAILED, unless it has ended already."""
        return await self.change(id_, lambda known: known.failed(error, reason, self.clock.now()))


def is_over(store: RecordStore[T]) -> Callable[[Item], Awaitable[bool]]:
    """For `ControlView`: whether what an item belongs to has ended or is being cancelled."""

    async def over(item: Item) -> bool:
        try:
            known = (await store.get(item.owner)).value
        except NotFound:
            return True
        return known.attempt >= item.attempt and known.winding_up

    return over
