"""What may happen to everything that is submitted, and what each change sets in motion."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.state import State, Submission
from evalmesh.domain.work import Item
from evalmesh.gateway.acceptance import Acceptance
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.submission import RecordBook
from evalmesh.wire.paging import cut_page, newest_first

SpecT = TypeVar("SpecT")
T = TypeVar("T", bound=Submission[Any])
M = TypeVar("M", bound=Message)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submissions(Generic[SpecT, T]):
    """Creates, reads, lists and cancels what was submitted."""

    book: RecordBook[T]
    control: RunStore
    """Holds the control wishes of runs and load tests."""
    draft: Callable[[SpecT], Awaitable[T]]
    """The record of a spec, without an id, after everything it asks for was checked: raises what is wrong."""
    first: Callable[[T], Item]
    """Asks for the first step of a new one."""
    last: Callable[[T, str], Item]
    """Asks whoever it may concern to end one that is cancelled; takes the name of the cancel."""

    async def create(self, spec: SpecT, request_id: str = "", *, validate_only: bool = False) -> T:
        """Accepts it, or refuses it before anything is spent. The same `request_id` gives the same record."""
        acceptance = self._acceptance()
        if (known := await acceptance.known(request_id)) is not None:
            return known
        draft = await self.draft(spec)
        if validate_only:
            return draft
        record = await acceptance.accept(
            request_id, draft.create_time, lambda id_: replace(draft, id=id_, request_id=request_id)
        )
        _LOG.info("%s accepted", record.NOUN, extra={"run": record.id})
        return record

    def _acceptance(self) -> Acceptance[T]:
        store = self.book.store
        return Acceptance(
            find_request=store.find_request,
            claim_request=store.claim_request,
            get=self.get,
            create=self.book.create,
            is_fresh=lambda one: one.state is State.QUEUED and one.attempt == 0,
            queue=lambda one: self.book.bus.publish([self.first(one)]),
        )

    async def get(self, id_: str) -> T:
        """The record. Raises `NotFound`."""
        return await self.book.get(id_)

    async def page(self, size: int, token: str, show: Callable[[T], M]) -> tuple[list[M], str]:
        """One page as messages, newest first, and the token of the next one; empty on the last page."""
        ids, following = newest_first(await self.book.store.list_ids(), size, token)

        async def shown(id_: str) -> M:
            return show(await self.get(id_))

        return await cut_page(ids, following, shown)

    async def cancel(self, id_: str) -> T:
        """Stops work on it; what is finished is reported. Raises `FailedPrecondition` when it has ended.

        Whoever works on it sees the wish within a second. If nobody does, the item queued here brings somebody.
        """

        def cancelling(known: T) -> T:
            if known.state.terminal:
                noun = known.NOUN.capitalize()
                raise FailedPrecondition(f"{noun} {id_} has ended already ({known.state}); there is nothing to cancel.")
            return replace(known, state=State.CANCELLING)

        known = await self.book.change(id_, cancelling)
        await self.control.set_control(id_, "cancel")
        await self.book.bus.purge(id_)
        await self.book.bus.publish([self.last(known, f"cancel-{secrets.token_hex(4)}")])
        return await self.get(id_)
