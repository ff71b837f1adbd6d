"""Changing the record of a load test, and whether what it asks for is still wanted."""

from collections.abc import Awaitable, Callable

from evalmesh.domain.errors import NotFound
from evalmesh.domain.events import Event
from evalmesh.domain.load_test import LoadTest, LoadTestState
from evalmesh.domain.work import Item
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.load_tests.store import LoadTestStore
from evalmesh.runtime.records import change_record


async def change_load_test(
    store: LoadTestStore, bus: Bus, clock: Clock, load_test: str, change: Callable[[LoadTest], LoadTest]
) -> LoadTest:
    """Applies `change` to the newest record; a change that returns its argument writes nothing. Raises `NotFound`."""
    return await change_record(
        lambda: store.get(load_test),
        store.update,
        change,
        lambda: bus.emit(Event(run=load_test, kind="state", source="load-test-record", time=clock.now())),
    )


def load_test_is_over(store: LoadTestStore) -> Callable[[Item], Awaitable[bool]]:
    """For `ControlView`: whether the load test of an item has ended or is being cancelled."""

    async def is_over(item: Item) -> bool:
        try:
            load_test = (await store.get(item.owner)).value
        except NotFound:
            return True
        over = load_test.state.terminal or load_test.state is LoadTestState.CANCELLING
        return load_test.attempt >= item.attempt and over

    return is_over
