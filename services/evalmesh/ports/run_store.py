"""Records of runs, pools and control wishes: small, strongly consistent, watched."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from evalmesh.domain.run import Run
from evalmesh.domain.work import Pool

ControlWish = Literal["run", "cancel"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A value with the revision a later `update` must name."""

    value: T
    revision: int


class RunStore(Protocol):
    """`update_*` raises `Conflict` when the revision is no longer the newest: read again and redo the change."""

    async def create_run(self, run: Run) -> None:
        """Raises `AlreadyExists`."""
        ...

    async def get_run(self, run: str) -> Versioned[Run]:
        """Raises `NotFound`."""
        ...

    async def update_run(self, run: Run, revision: int) -> int:
        """Replaces the record; returns the new revision."""
        ...

    async def list_runs(self) -> Sequence[str]:
        """Ids of all runs, newest first."""
        ...

    async def claim_request(self, request_id: str, run: str) -> str:
        """Binds a caller's request to a run id, for ever; returns the id it is bound to, perhaps an earlier one."""
        ...

    async def find_request(self, request_id: str) -> str | None:
        """The run id that `claim_request` bound it to."""
        ...

    async def get_progress(self, run: str) -> Versioned[bytes]:
        """The aggregator's own record of the run; revision 0 and empty bytes when there is none."""
        ...

    async def update_progress(self, run: str, data: bytes, revision: int) -> int:
        """Writes the aggregator's record; revision 0 creates it."""
        ...

    async def set_control(self, run: str, wish: ControlWish) -> None:
        """Tells every worker what is wanted of the run."""
        ...

    def watch_control(self) -> AsyncIterator[tuple[str, ControlWish]]:
        """All wishes that stand now, then changes, without end."""
        ...

    async def put_pool(self, pool: Pool) -> None:
        """Wishes for runners that serve the pool's model."""
        ...

    async def get_pool(self, pool: str) -> Pool:
        """Raises `NotFound`."""
        ...

    def watch_pools(self) -> AsyncIterator[Pool]:
        """All pools there are, then new and changed ones, without end."""
        ...
