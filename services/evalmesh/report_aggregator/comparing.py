"""Comparisons of runs whose results lie in the store."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from evalmesh.domain.comparison import ComparisonWish
from evalmesh.domain.layout import results_key
from evalmesh.report_aggregator.tables import ResultTables
from evalmesh.v1 import reports_pb2 as pb
from evalmesh.wire.runs.reports import PIECE_BYTES


async def compare(
    reports: Sequence[Mapping[str, Any]], tables: ResultTables, wish: ComparisonWish
) -> AsyncIterator[pb.CompareRunsResponse]:
    """The document, then the flips in answers of about `PIECE_BYTES`. Raises `InvalidInput` and `NotFound`."""
    answers = _answers(reports, tables, wish, asyncio.get_running_loop())
    while (answer := await asyncio.to_thread(next, answers, None)) is not None:
        yield answer


def _answers(
    reports: Sequence[Mapping[str, Any]], tables: ResultTables, wish: ComparisonWish, loop: asyncio.AbstractEventLoop
) -> Iterator[pb.CompareRunsResponse]:
    """Runs in threads, one after the other; files are fetched on the loop."""
    from evalmesh.results.comparing.alike import Source  # noqa: PLC0415  (brings pyarrow: slow)
    from evalmesh.results.comparing.comparison import compare_runs  # noqa: PLC0415  (likewise)

    def source(report: Mapping[str, Any]) -> Source:
        def opened(benchmark: str) -> BinaryIO:
            key = results_key(report["run"]["id"], benchmark)
            return asyncio.run_coroutine_threadsafe(tables.open(key), loop).result()

        return Source(report, opened)

    comparison = compare_runs([source(report) for report in reports], wish, datetime.now(UTC).isoformat())
    yield pb.CompareRunsResponse(json=json.dumps(comparison.document))
    if wish.flips == 0:
        return
    flips: list[str] = []
    size = 0
    for flip in comparison.flips(wish.flips, texts=wish.texts):
        flips.append(json.dumps(flip))
        size += len(flips[-1])
        if size >= PIECE_BYTES:
            yield pb.CompareRunsResponse(flips=flips)
            flips, size = [], 0
    if flips:
        yield pb.CompareRunsResponse(flips=flips)
