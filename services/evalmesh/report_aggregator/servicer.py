"""ReportService over gRPC: decode, call, encode."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.report_aggregator.comparing import compare
from evalmesh.report_aggregator.tables import ResultTables, page_of
from evalmesh.v1 import reports_pb2 as pb
from evalmesh.v1 import reports_pb2_grpc
from evalmesh.wire.names import parse_name, parse_report_name
from evalmesh.wire.paging import PAGE_BYTES, decode_position, decode_token, encode_token, page_size
from evalmesh.wire.runs.comparisons import comparison_from_proto
from evalmesh.wire.runs.reports import export_key, query_from_proto, report_from_proto, report_to_proto


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
        size_bytes = 0
        for run in await self._runs.list_ids():
            if after is not None and run >= str(after):
                continue
            if not await self._objects.exists(layout.report_json_key(run)):
                continue
            report = await self._report(run)
            size_bytes += report.ByteSize()
            if len(answer.reports) == size or (answer.reports and size_bytes > PAGE_BYTES):
                answer.next_page_token = encode_token(parse_report_name(answer.reports[-1].name))
                break
            answer.reports.append(report)
        return answer

    async def QueryResults(self, request: pb.QueryResultsRequest, context: Any) -> pb.QueryResultsResponse:
        run = parse_name("runs", request.parent)
        asked = query_from_proto(request)
        belongs_to = f"{run}/{request.benchmark}/{asked}"
        after = decode_position(request.page_token, belongs_to)
        size = page_size(request.page_size, 100, 1000)
        file = await self._tables.open(export_key(run, f"results/{request.benchmark}.parquet"))
        rows, last, counts = await asyncio.to_thread(page_of, file, asked, after, size, counted=request.with_counts)
        token = encode_token(last, belongs_to) if last is not None else ""
        counted = pb.GradeCounts(results=counts) if request.with_counts else None
        return pb.QueryResultsResponse(results=rows, next_page_token=token, counts=counted)

    async def CompareRuns(self, request: pb.CompareRunsRequest, context: Any) -> AsyncIterator[pb.CompareRunsResponse]:
        runs, wish = comparison_from_proto(request)
        reports = [report_from_proto(await self._report(run)) for run in runs]
        async for answer in compare(reports, self._tables, wish):
            yield answer

    async def ExportReport(
        self, request: pb.ExportReportRequest, context: Any
    ) -> AsyncIterator[pb.ExportReportResponse]:
        key = export_key(parse_report_name(request.name), request.file)
        async for piece in self._objects.stream(key):
            yield pb.ExportReportResponse(data=piece)
