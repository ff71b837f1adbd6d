"""The report step of load tests: the levels' documents into the report, then the end state of the load test."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from evalmesh.domain.load_test import LevelState, LoadTest
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.state import State
from evalmesh.ports.object_store import ObjectStore
from evalmesh.report_aggregator.load_tests.files import LoadTestFiles
from evalmesh.runtime.submission import RecordBook

_LOG = logging.getLogger(__name__)


class PerfWorker:
    """Ends load tests. Doing it twice changes nothing."""

    def __init__(self, book: RecordBook[LoadTest], objects: ObjectStore) -> None:
        self._book = book
        self._files = LoadTestFiles(objects)

    async def handle(self, item: LoadItem) -> None:
        """The report; or, unless it `ends`, the word that a load test has begun, so that its report need not wait."""
        if not item.ends:
            await asyncio.to_thread(_warm_up)
            return
        test = await self._book.get(item.load_test)
        if test.state.terminal or test.attempt != item.attempt:
            return
        from evalmesh.pages.load_tests.page import render_perf_html  # noqa: PLC0415  (see `_warm_up`)
        from evalmesh.report_aggregator.load_tests.perf_json import build_perf, encode_perf  # noqa: PLC0415

        levels = await self._files.levels(test)
        ended = _ended(test, {level["index"] for level in levels}, self._book.clock.now())
        document = build_perf(ended, levels, self._book.clock.now())
        await self._files.write_perf(test.id, encode_perf(document))
        page, _ = await asyncio.gather(
            asyncio.to_thread(render_perf_html, document), self._files.write_requests(test.id, test.levels)
        )
        await self._files.write_page(test.id, page)

        def end(current: LoadTest) -> LoadTest:
            if current.state.terminal or current.attempt != item.attempt:
                return current
            return replace(current, state=ended.state, end_time=ended.end_time, levels=ended.levels)

        await self._book.change(test.id, end)
        _LOG.info("load test ended", extra={"state": str(ended.state)})

    async def set_aside(self, item: LoadItem, error: str) -> None:
        """A load test whose report cannot be made: it has failed and says why."""
        await self._book.fail(item.load_test, error, "REPORT_FAILED")


def _ended(test: LoadTest, documented: Collection[int], now: float) -> LoadTest:
    """The load test with its end state; levels that were begun and never came to figures end with it."""
    broken: LevelState = "cancelled"
    if test.state is State.CANCELLING:
        state = State.CANCELLED
    else:
        state = State.FAILED if test.error else State.SUCCEEDED
        broken = "failed"
    levels = tuple(
        replace(level, state=broken)
        if level.state in {"pending", "running"} and level.index not in documented
        else level
        for level in test.levels
    )
    return replace(test, state=state, end_time=now, levels=levels)


def _warm_up() -> None:
    """Loads what a report is made with while load is sent: a load test begins sooner without it."""
    from evalmesh.pages.load_tests.page import warm_up  # noqa: PLC0415
    from evalmesh.report_aggregator.load_tests import perf_json  # noqa: F401, PLC0415
    from evalmesh.report_aggregator.load_tests import requests as perf_requests  # noqa: F401, PLC0415

    warm_up()
