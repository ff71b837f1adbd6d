"""The asynchronous client of the public API."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, Unpack

import grpc

from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.garbage import DEFAULT_MIN_AGE_S, CollectedGroup
from evalmesh.domain.hub import HubChoice
from evalmesh.domain.result_query import ResultFilters, ResultQuery
from evalmesh.domain.run import BenchmarkSpec, Run, RunSpec
from evalmesh.domain.run_filter import RunFilter
from evalmesh.domain.score import Score
from evalmesh.sdk.calls import RECONNECT_S, run_id
from evalmesh.sdk.channel import Channel, OnLost, Patience
from evalmesh.sdk.comparisons import ComparisonCalls
from evalmesh.sdk.load_tests import LoadTestCalls
from evalmesh.sdk.models import ModelCalls
from evalmesh.v1 import (
    benchmarks_pb2,
    benchmarks_pb2_grpc,
    reports_pb2,
    reports_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    scoring_pb2,
    scoring_pb2_grpc,
    stores_pb2,
    stores_pb2_grpc,
)
from evalmesh.wire.garbage import group_from_proto
from evalmesh.wire.names import make_name, report_name
from evalmesh.wire.runs.benchmarks import (
    BenchmarkInfo,
    Preview,
    benchmark_from_proto,
    estimate_from_proto,
    preview_from_proto,
)
from evalmesh.wire.runs.checks import check_spec
from evalmesh.wire.runs.filters import list_request
from evalmesh.wire.runs.reports import query_to_proto, report_from_proto, result_from_proto
from evalmesh.wire.runs.scoring import ScoringItem, item_to_proto, score_from_proto
from evalmesh.wire.runs.specs import benchmark_spec_to_proto, run_from_proto, spec_to_proto

DEFAULT_TIMEOUT_S = 60.0
_RESULTS_PAGE = 200
_COLLECTING_S = 3600.0
"""A store with millions of objects is listed whole."""


@dataclass(frozen=True, slots=True)
class ImportedCompletions:
    """Where uploaded completions are now."""

    digest: str
    """For `RunSpec.completions_digest`."""
    row_count: int


def _run_name(run: Run | str) -> str:
    return make_name("runs", run_id(run))


class AsyncClient(ModelCalls, LoadTestCalls, ComparisonCalls):
    """Talks to a gateway. Use it as an async context manager, or call `close`.

    Args:
        address: `host:port`; `https://host:port` is reached by TLS (EVALMESH_TLS_CA_FILE: authorities to trust).
        token: Sent as a bearer token; without it EVALMESH_TOKEN, the file of EVALMESH_TOKEN_FILE, or that of a platform
            which the same user runs on this machine. Use TLS with it on anything but a loopback address.
        timeout_s: Deadline of calls with one answer; watches and downloads have none.
        credentials: TLS of your own making, e.g. `grpc.ssl_channel_credentials(...)`.
        on_wait: Told what a call waits for beyond its deadline: a model that is being loaded.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._channel = Channel(address, token, timeout_s, credentials, on_wait)

    @property
    def address(self) -> str:
        """Of the gateway."""
        return self._channel.address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends calls in flight and disconnects."""
        await self._channel.close()

    @property
    def _runs(self) -> Any:
        return self._channel.stub(runs_pb2_grpc.RunServiceStub)

    @property
    def _reports(self) -> Any:
        return self._channel.stub(reports_pb2_grpc.ReportServiceStub)

    @property
    def _benchmarks(self) -> Any:
        return self._channel.stub(benchmarks_pb2_grpc.BenchmarkServiceStub)

    @property
    def _scoring(self) -> Any:
        return self._channel.stub(scoring_pb2_grpc.ScoringServiceStub)

    # Runs

    async def create_run(self, spec: RunSpec, *, request_id: str | None = None, validate_only: bool = False) -> Run:
        """Starts a run, or with `validate_only` just checks it (the returned run has no id then).

        Safe to repeat: the same `request_id` gives the same run. Without one, each call makes its own.
        """
        check_spec(spec)
        request = runs_pb2.CreateRunRequest(
            spec=spec_to_proto(spec), request_id=request_id or str(uuid.uuid4()), validate_only=validate_only
        )
        return run_from_proto(await self._channel.call(self._runs.CreateRun, request, idempotent=True))

    async def get_run(self, run: Run | str, *, size: bool = False, answered: bool = False) -> Run:
        """The record as it is now. Raises `NotFound`.

        Args:
            run: Which.
            size: Also say how many bytes its objects have.
            answered: Also count what is answered and not yet in the results.
        """
        request = runs_pb2.GetRunRequest(name=_run_name(run), show_size=size, show_answered=answered)
        return run_from_proto(await self._channel.call(self._runs.GetRun, request, idempotent=True))

    async def find_runs(
        self, where: RunFilter, most: int = 50, *, size: bool = False, answered: bool = False
    ) -> tuple[list[Run], int]:
        """The newest runs that are meant, up to 1000, and how many there are; the rest as in `get_run`."""
        request = list_request(where, most, show_size=size, show_answered=answered)
        found: list[Run] = []
        total = 0
        async for page in self._pages(self._runs.ListRuns, request):
            total = page.total_size
            found += map(run_from_proto, page.runs)
            if len(found) >= most:
                break
        return found[:most], total

    async def list_runs(self, page_size: int = 0, where: RunFilter | None = None) -> AsyncIterator[Run]:
        """All runs that are meant, newest first; pages are fetched as the iterator goes."""
        request = list_request(where or RunFilter(), page_size, show_size=False, show_answered=False)
        async for page in self._pages(self._runs.ListRuns, request):
            for proto in page.runs:
                yield run_from_proto(proto)

    async def watch_run(
        self,
        run: Run | str,
        *,
        min_interval_s: float = 0.1,
        reconnect_s: float = RECONNECT_S,
        on_lost: OnLost | None = None,
    ) -> AsyncIterator[Run]:
        """The run now, and after each change, until it has ended; at most one per `min_interval_s`.

        A broken connection is taken up again where it broke; `Unavailable` only after `reconnect_s` of silence.
        `on_lost` is told when one breaks, with why, and with an empty text when it is there again.
        """
        request = runs_pb2.WatchRunRequest(name=_run_name(run))
        patience = Patience(reconnect_s, on_lost)
        updates = self._follow(self._runs.WatchRun, request, min_interval_s, patience, _update)
        async with aclosing(updates):
            async for update in updates:
                yield update
                if update.state.terminal:
                    return

    async def wait_run(self, run: Run | str) -> Run:
        """The run once it has ended."""
        update = None
        async for update in self.watch_run(run, min_interval_s=0.5):  # noqa: B007  (the last one counts)
            pass
        return update or await self.get_run(run)

    async def cancel_run(self, run: Run | str) -> Run:
        """Asks for the end; what is finished stays. Raises `FailedPrecondition` when the run has ended already."""
        request = runs_pb2.CancelRunRequest(name=_run_name(run))
        return run_from_proto(await self._channel.call(self._runs.CancelRun, request, idempotent=False))

    async def resume_run(
        self,
        run: Run | str,
        *,
        takeover: bool = False,
        rescore: bool = False,
        url: str = "",
        key_ref: str | None = None,
    ) -> Run:
        """Goes on where a run stopped.

        Args:
            run: A FAILED or CANCELLED run.
            takeover: Also a run that says it is going on, because its platform is known to have died.
            rescore: Score and report again from the stored completions.
            url: Where the model is now.
            key_ref: Reference to the key to use from now on.
        """
        request = runs_pb2.ResumeRunRequest(
            name=_run_name(run), takeover=takeover, rescore=rescore, url=url, key_ref=key_ref
        )
        return run_from_proto(await self._channel.call(self._runs.ResumeRun, request, idempotent=False))

    async def delete_run(self, run: Run | str, *, takeover: bool = False, validate_only: bool = False) -> int:
        """Frees what a run that has ended holds; returns the bytes. Raises `FailedPrecondition`, `NotFound`.

        Args:
            run: Which.
            takeover: Also a run that says it is going on, because its platform is known to have died.
            validate_only: Only say what would be freed.
        """
        request = runs_pb2.DeleteRunRequest(name=_run_name(run), takeover=takeover, validate_only=validate_only)
        return int((await self._channel.call(self._runs.DeleteRun, request, idempotent=False)).freed_bytes)

    async def collect_garbage(
        self, *, min_age_s: float = DEFAULT_MIN_AGE_S, validate_only: bool = False
    ) -> list[CollectedGroup]:
        """Removes objects that no run and no load test refers to, and that are older than `min_age_s`.

        Returns what went, by kind; with `validate_only` what would go.
        """
        request = stores_pb2.CollectGarbageRequest(validate_only=validate_only)
        request.min_age.FromTimedelta(timedelta(seconds=min_age_s))
        stub = self._channel.stub(stores_pb2_grpc.StoreServiceStub)
        answer = await self._channel.call(stub.CollectGarbage, request, idempotent=True, timeout_s=_COLLECTING_S)
        return [group_from_proto(one) for one in answer.groups]

    # Reports

    async def report(self, run: Run | str) -> dict[str, Any]:
        """The report (docs/report-schema.md). Raises `NotFound` until it is written."""
        request = reports_pb2.GetReportRequest(name=report_name(run_id(run)))
        return report_from_proto(await self._channel.call(self._reports.GetReport, request, idempotent=True))

    async def list_reports(self, page_size: int = 0) -> AsyncIterator[dict[str, Any]]:
        """All reports, newest run first."""
        request = reports_pb2.ListReportsRequest(page_size=page_size)
        async for page in self._pages(self._reports.ListReports, request):
            for proto in page.reports:
                yield report_from_proto(proto)

    async def results(
        self, run: Run | str, benchmark: str = "", **asked: Unpack[ResultFilters]
    ) -> AsyncIterator[dict[str, Any]]:
        """Sample results, one mapping per request, of one benchmark or of all, one after another.

        `grades=["wrong", "no_answer"]`, `subset="geo"`, `search="text"`, `order_by="latency_s desc"`, ...: all of it
        counts (`domain.result_query`). Raises `NotFound`, and `InvalidInput` for what no results can have.
        """
        query = ResultQuery.of(**asked)
        for name in [benchmark] if benchmark else [one["name"] for one in (await self.report(run))["benchmarks"]]:
            request = query_to_proto(_run_name(run), name, query)
            request.page_size = _RESULTS_PAGE
            async for page in self._pages(self._reports.QueryResults, request):
                for text in page.results:
                    yield result_from_proto(text)

    async def result_counts(self, run: Run | str, benchmark: str, **asked: Unpack[ResultFilters]) -> dict[str, int]:
        """How many results there are of each grade (`right`, `wrong`, ...), whatever `grades` says."""
        request = query_to_proto(_run_name(run), benchmark, ResultQuery.of(**asked))
        request.page_size, request.with_counts = 1, True
        answer = await self._channel.call(self._reports.QueryResults, request, idempotent=True)
        return dict(answer.counts.results)

    async def export(self, run: Run | str, file: str, path: Path) -> Path:
        """Downloads `report.json`, `report.html` or `results/{benchmark}.parquet`; the file appears when complete."""
        request = reports_pb2.ExportReportRequest(name=report_name(run_id(run)), file=file)
        return await self._download(self._reports.ExportReport, request, path)

    # Benchmarks

    async def list_benchmarks(self) -> AsyncIterator[BenchmarkInfo]:
        """All benchmarks in name order."""
        request = benchmarks_pb2.ListBenchmarksRequest()
        async for page in self._pages(self._benchmarks.ListBenchmarks, request):
            for proto in page.benchmarks:
                yield benchmark_from_proto(proto)

    async def get_benchmark(self, name: str) -> BenchmarkInfo:
        """One benchmark. Raises `NotFound`."""
        request = benchmarks_pb2.GetBenchmarkRequest(name=make_name("benchmarks", name))
        return benchmark_from_proto(await self._channel.call(self._benchmarks.GetBenchmark, request, idempotent=True))

    async def preview_benchmark(
        self,
        spec: BenchmarkSpec,
        *,
        sample_count: int = 1,
        dataset_dir: str = "",
        dataset_hub: HubChoice = "modelscope",
        seed: int = 42,
    ) -> Preview:
        """The first samples per subset with the very prompts a run would send."""
        request = benchmarks_pb2.PreviewBenchmarkRequest(
            spec=benchmark_spec_to_proto(spec),
            dataset_dir=dataset_dir,
            dataset_hub=dataset_hub,
            sample_count=sample_count,
            seed=seed,
        )
        page = await self._channel.call(self._benchmarks.PreviewBenchmark, request, idempotent=True)
        samples = tuple(preview_from_proto(proto) for proto in page.samples)
        return Preview(samples, tuple(page.malformed_rows), tuple(page.notes))

    async def validate_benchmarks(self, spec: RunSpec) -> None:
        """Raises `InvalidInput` or `NotFound` when the benchmarks of the spec cannot run on their data."""
        request = benchmarks_pb2.ValidateBenchmarksRequest(spec=spec_to_proto(spec))
        await self._channel.call(self._benchmarks.ValidateBenchmarks, request, idempotent=True)

    async def estimate_run(self, spec: RunSpec) -> list[BenchmarkEstimate]:
        """What the run would ask, benchmark by benchmark; every row is read, and nothing is asked."""
        request = benchmarks_pb2.EstimateRunRequest(spec=spec_to_proto(spec))
        answer = await self._channel.call(self._benchmarks.EstimateRun, request, idempotent=True)
        return [estimate_from_proto(one) for one in answer.benchmarks]

    # Scoring

    async def score(self, benchmark: str, items: Sequence[ScoringItem]) -> list[Score]:
        """Scores up to 1000 completions at once, in their order, without a run."""
        request = scoring_pb2.ScoreCompletionsRequest(
            benchmark=benchmark, items=[item_to_proto(item) for item in items]
        )
        answer = await self._channel.call(self._scoring.ScoreCompletions, request, idempotent=True)
        return [score_from_proto(proto) for proto in answer.scores]

    async def list_scorers(self) -> AsyncIterator[str]:
        """Kinds of scorers, by name."""
        async for page in self._pages(self._scoring.ListScorers, scoring_pb2.ListScorersRequest()):
            for name in page.scorers:
                yield name

    async def import_completions(self, path: Path) -> ImportedCompletions:
        """Uploads a JSON Lines file of completions made elsewhere, so that a run can score them."""
        answer = await self._upload(
            self._scoring.ImportCompletions, path, lambda data: scoring_pb2.ImportCompletionsRequest(data=data)
        )
        return ImportedCompletions(answer.digest, answer.row_count)


def _update(event: runs_pb2.RunEvent) -> Run:
    return run_from_proto(event.run)
