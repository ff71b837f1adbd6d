"""Records of submissions of one kind: small, strongly consistent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A value with the revision a later `update` must name."""

    value: T
    revision: int


class RecordStore(Protocol[T]):
    """Every method raises `Unavailable` when the store cannot be reached.

    Control wishes of load tests stand beside those of runs (`RunStore.set_control`): ids are unique among both.
    """

    async def create(self, record: T) -> None:
        """Raises `AlreadyExists`."""
        ...

    async def get(self, id_: str) -> Versioned[T]:
        """Raises `NotFound`."""
        ...

    async def update(self, record: T, revision: int) -> int:
        """Replaces the record; returns the new revision.

        Raises `Conflict` when the revision is no longer the newest: read again and redo the change.
        """
        ...

    async def list_ids(self) -> Sequence[str]:
        """Ids of all records, newest first."""
        ...

    async def claim_request(self, request_id: str, id_: str) -> str:
        """Binds a caller's request to an id, for ever; returns the id it is bound to, perhaps an earlier one."""
        ...

    async def find_request(self, request_id: str) -> str | None:
        """The id that `claim_request` bound it to."""
        ...
