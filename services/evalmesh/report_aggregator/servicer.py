"""ReportService over gRPC: decode, call, encode."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.v1 import reports_pb2 as pb
from evalmesh.v1 import reports_pb2_grpc
from evalmesh.wire.names import parse_name, parse_report_name
from evalmesh.wire.paging import decode_offset, decode_token, encode_token, page_size
from evalmesh.wire.runs.reports import check_score_state, export_key, report_to_proto

_TABLES_KEPT = 4


class ResultTables:
    """Local copies of the results files asked for last: Parquet wants random access."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._folder: TemporaryDirectory[str] | None = None
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._lock = asyncio.Lock()

    async def path(self, key: str) -> Path:
        """A local file with the object's bytes. Raises `NotFound`."""
        async with self._lock:
            if key not in self._paths:
                self._folder = self._folder or TemporaryDirectory(prefix="evalmesh-results-")
                path = Path(self._folder.name) / f"{key.replace('/', '-')}"
                with path.open("wb") as file:
                    async for piece in self._objects.stream(key):
                        file.write(piece)
                self._paths[key] = path
                if len(self._paths) > _TABLES_KEPT:
                    self._paths.popitem(last=False)[1].unlink()
            self._paths.move_to_end(key)
            return self._paths[key]

    async def close(self) -> None:
        """Removes the copies."""
        if self._folder is not None:
            self._folder.cleanup()


class ReportServicer(reports_pb2_grpc.ReportServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, objects: ObjectStore, runs: RunStore, tables: ResultTables) -> None:
        self._objects = objects
        self._runs = runs
        self._tables = tables

    async def _report(self, run: str) -> pb.Report:
        try:
            return report_to_proto(run, await self._objects.get(layout.report_json_key(run)))
        except NotFound:
            state = (await self._runs.get(run)).value.state
            raise NotFound(f"Run {run} has no report yet; it is {state}. Watch it: evalmesh runs watch {run}") from None

    async def GetReport(self, request: pb.GetReportRequest, context: Any) -> pb.Report:
        return await self._report(parse_report_name(request.name))

    async def ListReports(self, request: pb.ListReportsRequest, context: Any) -> pb.ListReportsResponse:
        size = page_size(request.page_size, 20, 100)
        after = decode_token(request.page_token)
        answer = pb.ListReportsResponse()
        for run in await self._runs.list_ids():
            if after is not None and run >= str(after):
                continue
            if len(answer.reports) == size:
                answer.next_page_token = encode_token(parse_report_name(answer.reports[-1].name))
                break
            if await self._objects.exists(layout.report_json_key(run)):
                answer.reports.append(await self._report(run))
        return answer

    async def QueryResults(self, request: pb.QueryResultsRequest, context: Any) -> pb.QueryResultsResponse:
        run = parse_name("runs", request.parent)
        state = check_score_state(request.score_state)
        query = f"{run}/{request.benchmark}/{state}/{request.subset}"
        start = decode_offset(request.page_token, query)
        size = page_size(request.page_size, 100, 1000)
        path = await self._tables.path(export_key(run, f"results/{request.benchmark}.parquet"))
        found = await asyncio.to_thread(_page, path, start, size, (state, request.subset))
        rows, next_row = found
        token = encode_token(next_row, query) if next_row is not None else ""
        return pb.QueryResultsResponse(results=[json.dumps(row, default=str) for row in rows], next_page_token=token)

    async def ExportReport(
        self, request: pb.ExportReportRequest, context: Any
    ) -> AsyncIterator[pb.ExportReportResponse]:
        key = export_key(parse_report_name(request.name), request.file)
        async for piece in self._objects.stream(key):
            yield pb.ExportReportResponse(data=piece)


def _page(path: Path, start: int, size: int, wanted: tuple[str, str]) -> tuple[list[dict[str, Any]], int | None]:
    """Rows from `start` on that match, and where the next page starts; `None` at the end."""
    from evalmesh.results.table import read_results  # noqa: PLC0415  (brings pyarrow: slow)

    state, subset = wanted
    rows: list[dict[str, Any]] = []
    numbered: Iterator[tuple[int, dict[str, Any]]] = enumerate(read_results(path, start_row=start), start=start)
    for number, row in numbered:
        if (state and row["state"] != state) or (subset and row["subset"] != subset):
            continue
        if len(rows) == size:
            return rows, number
        rows.append(row)
    return rows, None
