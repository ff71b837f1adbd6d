"""Load tests as submissions: what is checked before one is accepted, and who works on it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from evalmesh.domain.load_test import LoadTest, LoadTestSpec
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.state import State
from evalmesh.domain.work import Queue
from evalmesh.gateway.submission import Submissions
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.submission import RecordBook
from evalmesh.runtime.telemetry import current_trace

LoadTests = Submissions[LoadTestSpec, LoadTest]


class LoadSpecCheck(Protocol):
    """Asks the load generator whether data set, tokenizer and endpoint of a spec work; raises what is wrong."""

    async def __call__(self, spec: LoadTestSpec) -> Sequence[str]:
        """What the user should know although all of it works.

        Raises `InvalidInput`, `NotFound`, `Unavailable`, `Unauthenticated`, `PermissionDenied`.
        """
        ...


def load_tests(book: RecordBook[LoadTest], control: RunStore, check: LoadSpecCheck, host: str = "") -> LoadTests:
    """Conducted by a load generator, which also ends those that are cancelled and asks for their report."""

    async def draft(spec: LoadTestSpec) -> LoadTest:
        notes = tuple(await check(spec))
        return LoadTest("", spec, State.QUEUED, book.clock.now(), notes=notes, host=host)

    def first(test: LoadTest) -> LoadItem:
        return LoadItem(test.id, Queue.CONDUCT, attempt=test.attempt, trace=current_trace())

    def last(test: LoadTest, cancel: str) -> LoadItem:
        return replace(first(test), ends=True, cancel=cancel)

    return Submissions(book, control, draft, first, last)
