"""What may happen to a load test, and what each change sets in motion."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.load_test import LoadTest, LoadTestSpec, LoadTestState
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.work import Queue
from evalmesh.gateway.acceptance import Acceptance
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.load_tests.store import LoadTestStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.load_tests import change_load_test
from evalmesh.runtime.telemetry import current_trace

_LOG = logging.getLogger(__name__)


class LoadSpecCheck(Protocol):
    """Asks the load generator whether data set, tokenizer and endpoint of a spec work; raises what is wrong."""

    async def __call__(self, spec: LoadTestSpec) -> Sequence[str]:
        """What the user should know although all of it works.

        Raises `InvalidInput`, `NotFound`, `Unavailable`, `Unauthenticated`, `PermissionDenied`.
        """
        ...


@dataclass(frozen=True, slots=True)
class LoadTestLifecycle:
    """Creates, reads and cancels load tests."""

    load_tests: LoadTestStore
    runs: RunStore
    """Holds the control wishes of both."""
    bus: Bus
    clock: Clock
    check: LoadSpecCheck

    async def create(self, spec: LoadTestSpec, request_id: str = "", *, validate_only: bool = False) -> LoadTest:
        """Accepts a load test, or refuses it before anything is sent. The same `request_id` gives the same one."""
        acceptance = self._acceptance()
        if (known := await acceptance.known(request_id)) is not None:
            return known
        notes = tuple(await self.check(spec))
        now = self.clock.now()

        def make(id_: str) -> LoadTest:
            return LoadTest(id_, spec, LoadTestState.QUEUED, create_time=now, request_id=request_id, notes=notes)

        if validate_only:
            return replace(make(""), request_id="")
        load_test = await acceptance.accept(request_id, now, make)
        _LOG.info("load test accepted", extra={"run": load_test.id})
        return load_test

    def _acceptance(self) -> Acceptance[LoadTest]:
        return Acceptance(
            find_request=self.load_tests.find_request,
            claim_request=self.load_tests.claim_request,
            get=self.get,
            create=self.load_tests.create,
            is_fresh=lambda one: one.state is LoadTestState.QUEUED and one.attempt == 0,
            queue=self._queue,
        )

    async def _queue(self, load_test: LoadTest) -> None:
        item = LoadItem(load_test.id, Queue.CONDUCT, attempt=load_test.attempt, trace=current_trace())
        await self.bus.publish([item])

    async def get(self, load_test: str) -> LoadTest:
        """The record. Raises `NotFound`."""
        return (await self.load_tests.get(load_test)).value

    async def list_ids(self) -> Sequence[str]:
        """All load tests, newest first."""
        return await self.load_tests.list_ids()

    async def cancel(self, load_test: str) -> LoadTest:
        """Ends the load; what was measured is reported. Raises `FailedPrecondition` when it has ended already.

        The conductor ends it within a second. If there is none, the item queued here brings one, which does the same.
        """

        def cancelling(known: LoadTest) -> LoadTest:
            if known.state.terminal:
                raise FailedPrecondition(
                    f"Load test {load_test} has ended already ({known.state}); there is nothing to cancel."
                )
            return replace(known, state=LoadTestState.CANCELLING)

        known = await change_load_test(self.load_tests, self.bus, self.clock, load_test, cancelling)
        await self.runs.set_control(load_test, "cancel")
        await self.bus.purge(load_test)
        final = LoadItem(
            load_test,
            Queue.CONDUCT,
            ends=True,
            cancel=f"cancel-{secrets.token_hex(4)}",
            attempt=known.attempt,
            trace=current_trace(),
        )
        await self.bus.publish([final])
        return await self.get(load_test)
