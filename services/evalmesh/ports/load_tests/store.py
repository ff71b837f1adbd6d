"""Records of load tests: small, strongly consistent."""

from collections.abc import Sequence
from typing import Protocol

from evalmesh.domain.load_test import LoadTest
from evalmesh.ports.run_store import Versioned


class LoadTestStore(Protocol):
    """Every method raises `Unavailable` when the store cannot be reached.

    Control wishes of load tests stand beside those of runs (`RunStore.set_control`): ids are unique among both.
    """

    async def create(self, load_test: LoadTest) -> None:
        """Raises `AlreadyExists`."""
        ...

    async def get(self, load_test: str) -> Versioned[LoadTest]:
        """Raises `NotFound`."""
        ...

    async def update(self, load_test: LoadTest, revision: int) -> int:
        """Replaces the record; returns the new revision.

        Raises `Conflict` when the revision is no longer the newest: read again and redo the change.
        """
        ...

    async def list_ids(self) -> Sequence[str]:
        """Ids of all load tests, newest first."""
        ...

    async def claim_request(self, request_id: str, load_test: str) -> str:
        """Binds a caller's request to an id, for ever; returns the id it is bound to, perhaps an earlier one."""
        ...

    async def find_request(self, request_id: str) -> str | None:
        """The id that `claim_request` bound it to."""
        ...
