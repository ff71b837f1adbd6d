"""Records of one kind in a bucket: created once, changed by compare-and-set, found by their caller's request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from evalmesh.adapters.nats.bucket import Bucket
from evalmesh.domain.errors import AlreadyExists, Conflict, NotFound
from evalmesh.ports.records import Versioned
from evalmesh.wire import subjects


class HasId(Protocol):
    """What a record is found by."""

    @property
    def id(self) -> str:
        """One token of a subject."""
        ...


T = TypeVar("T", bound=HasId)


@dataclass(frozen=True, slots=True)
class Records(Generic[T]):
    """Records by id. Raises `InvalidInput` for an id that may not be a key, and what the bucket raises."""

    bucket: Bucket
    noun: str
    """What an error calls a record: `run`."""
    encode: Callable[[T], bytes]
    decode: Callable[[bytes, str], T]
    """Takes the key too, for its error."""

    def key(self, id_: str) -> str:
        """Key of a record."""
        return subjects.token(self.noun.replace(" ", "_"), id_)

    async def create(self, record: T) -> None:
        """Raises `AlreadyExists`."""
        try:
            await self.bucket.put(self.key(record.id), self.encode(record), expected=0)
        except Conflict:
            raise AlreadyExists(f"The {self.noun} {record.id!r} exists; choose another id.") from None

    async def get(self, id_: str) -> Versioned[T]:
        """Raises `NotFound`."""
        key = self.key(id_)
        found = await self.bucket.get(key)
        if found is None:
            raise NotFound(f"There is no {self.noun} {id_!r}; list the {self.noun}s to see which there are.")
        return Versioned(self.decode(found.value, f"{self.bucket.name}/{key}"), found.revision)

    async def update(self, record: T, revision: int) -> int:
        """Returns the new revision. Raises `Conflict`."""
        return await self.bucket.put(self.key(record.id), self.encode(record), expected=revision)

    async def remove(self, id_: str, revision: int) -> None:
        """Raises `Conflict`. No mark is left that a list would find."""
        key = self.key(id_)
        await self.bucket.remove(key, expected=revision)
        await self.bucket.forget(key)

    async def list_ids(self) -> Sequence[str]:
        """Newest first: ids sort by time. Whatever else lies in the bucket has a key of two tokens."""
        return sorted(await self.bucket.keys("*"), reverse=True)

    async def claim_request(self, request_id: str, id_: str) -> str:
        """Binds a request to an id; returns the id it is bound to."""
        try:
            await self.bucket.put(subjects.request_key(request_id), self.key(id_).encode(), expected=0)
        except Conflict:
            return await self.find_request(request_id) or id_
        return id_

    async def find_request(self, request_id: str) -> str | None:
        """The id a request is bound to."""
        found = await self.bucket.get(subjects.request_key(request_id))
        return found.value.decode() if found is not None else None
