"""Records of runs, pools and control wishes: small, strongly consistent, watched."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from evalmesh.domain.run import Run
from evalmesh.domain.work import PoolNote, PoolWish
from evalmesh.ports.records import RecordStore, Versioned

ControlWish = Literal["run", "cancel"]


class ProgressStore(Protocol):
    """How far runs have come: one record per run and benchmark, and with an empty benchmark one of the run itself."""

    async def get_progress(self, run: str, benchmark: str = "") -> Versioned[bytes]:
        """Revision 0 and empty bytes when there is none."""
        ...

    async def update_progress(self, run: str, benchmark: str, data: bytes, revision: int) -> int:
        """Revision 0 creates it. Raises `Conflict`."""
        ...


class ControlStore(Protocol):
    """What is wanted of runs and load tests, which of them go on, and who looks after them."""

    async def set_control(self, owner: str, wish: ControlWish) -> None:
        """Tells every worker what is wanted of a run or load test."""
        ...

    def watch_control(self) -> AsyncIterator[tuple[str, ControlWish]]:
        """All wishes that stand now, then changes, without end."""
        ...

    async def set_active(self, run: str, *, active: bool) -> None:
        """Whether the run goes on: those that do are found without a look at all runs there ever were."""
        ...

    async def list_active(self) -> Sequence[str]:
        """Runs that go on, in no order."""
        ...

    async def take_lease(self, name: str, holder: str, now: float, seconds: float) -> bool:
        """Whether `holder` has the lease until `now + seconds`: nobody had it, it had run out, or it was his."""
        ...


class PoolStore(Protocol):
    """Which pools are wished for, and what runners say of them."""

    async def wish_pool(self, wish: PoolWish) -> None:
        """A run needs the pool."""
        ...

    async def withdraw_pools(self, run: str) -> None:
        """The run needs no pool any more."""
        ...

    async def list_pools(self, run: str) -> Sequence[PoolWish]:
        """What a run wishes for."""
        ...

    def watch_pools(self) -> AsyncIterator[tuple[str, str, PoolWish | None]]:
        """(pool, run, wish): all wishes there are, then changes, without end; `None`: withdrawn."""
        ...

    async def note_pool(self, note: PoolNote) -> None:
        """What a runner says of a pool."""
        ...

    async def pool_notes(self, pool: str) -> Sequence[PoolNote]:
        """What runners have said, one note each."""
        ...


class RunStore(RecordStore[Run], ProgressStore, ControlStore, PoolStore, Protocol):
    """Everything that is kept in records about runs."""

    async def remove(self, run: str, revision: int) -> None:
        """Takes the record away; afterwards there is no such run. Raises `Conflict` if it was changed since."""
        ...

    async def forget(self, run: str) -> None:
        """Takes away what else is kept about a run whose record is gone: progress, control wish."""
        ...
