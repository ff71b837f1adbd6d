"""The blocking client: the asynchronous one, driven by an event loop in a thread of its own.

So retries, resumption and translation exist once, and the client works in scripts, threads and notebooks alike.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import grpc

from evalmesh.domain.comparison import ComparisonWish
from evalmesh.domain.completion import Completion
from evalmesh.domain.content import ContentPart
from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.garbage import DEFAULT_MIN_AGE_S, CollectedGroup
from evalmesh.domain.hub import HubChoice
from evalmesh.domain.load_test import LoadTest, LoadTestSpec
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.result_query import ResultFilters
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec
from evalmesh.domain.run_filter import RunFilter
from evalmesh.domain.score import Score
from evalmesh.sdk.aio import DEFAULT_TIMEOUT_S, AsyncClient, ImportedCompletions
from evalmesh.sdk.load_tests import LoadUpdate
from evalmesh.wire.load_tests.views import PreviewedRequest
from evalmesh.wire.runs.benchmarks import BenchmarkInfo, Preview
from evalmesh.wire.runs.models import ModelDescription
from evalmesh.wire.runs.scoring import ScoringItem

T = TypeVar("T")
_END: Any = object()


class _LoopThread:
    """An event loop that runs in the background."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="evalmesh-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for the result; whatever ends the wait also ends the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def iterate(self, open_items: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Items as they come; leaving the iterator ends the call behind it."""
        items = open_items()
        try:
            while True:
                item = self.run(_next(items))
                if item is _END:
                    return
                yield item
        finally:
            # A closed client has ended all its iterators already.
            if isinstance(items, AsyncGenerator) and not self._loop.is_closed():
                self.run(_close(items))

    def close(self) -> None:
        """Ends open iterators and stops the loop."""
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(items: AsyncIterator[T]) -> T | Any:
    return await anext(items, _END)


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


class Client:
    """Talks to a gateway and blocks until it has answered. Use it as a context manager, or call `close`.

    Every method does what the method of the same name of `AsyncClient` does.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._client = AsyncClient(address, token=token, timeout_s=timeout_s, credentials=credentials)
        self._thread = _LoopThread()
        self._closed = False

    @property
    def address(self) -> str:
        """Of the gateway."""
        return self._client.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects; doing it again changes nothing."""
        if not self._closed:
            self._closed = True
            self._thread.run(self._client.close())
            self._thread.close()

    def create_run(self, spec: RunSpec, *, request_id: str | None = None, validate_only: bool = False) -> Run:
        """Starts a run, or just checks it."""
        return self._thread.run(self._client.create_run(spec, request_id=request_id, validate_only=validate_only))

    def get_run(self, run: Run | str, *, size: bool = False, answered: bool = False) -> Run:
        """The record as it is now."""
        return self._thread.run(self._client.get_run(run, size=size, answered=answered))

    def list_runs(self, page_size: int = 0, where: RunFilter | None = None) -> Iterator[Run]:
        """All runs that are meant, newest first."""
        return self._thread.iterate(lambda: self._client.list_runs(page_size, where))

    def find_runs(
        self, where: RunFilter, most: int = 50, *, size: bool = False, answered: bool = False
    ) -> tuple[list[Run], int]:
        """The newest runs that are meant, and how many there are."""
        return self._thread.run(self._client.find_runs(where, most, size=size, answered=answered))

    def delete_run(self, run: Run | str, *, takeover: bool = False, validate_only: bool = False) -> int:
        """Frees what a run that has ended holds; returns the bytes."""
        return self._thread.run(self._client.delete_run(run, takeover=takeover, validate_only=validate_only))

    def watch_run(self, run: Run | str, *, min_interval_s: float = 0.1) -> Iterator[Run]:
        """The run now, and after each change, until it has ended."""
        return self._thread.iterate(lambda: self._client.watch_run(run, min_interval_s=min_interval_s))

    def wait_run(self, run: Run | str) -> Run:
        """The run once it has ended."""
        return self._thread.run(self._client.wait_run(run))

    def cancel_run(self, run: Run | str) -> Run:
        """Asks for the end."""
        return self._thread.run(self._client.cancel_run(run))

    def resume_run(
        self,
        run: Run | str,
        *,
        takeover: bool = False,
        rescore: bool = False,
        url: str = "",
        key_ref: str | None = None,
    ) -> Run:
        """Goes on where a run stopped."""
        wish = self._client.resume_run(run, takeover=takeover, rescore=rescore, url=url, key_ref=key_ref)
        return self._thread.run(wish)

    def report(self, run: Run | str) -> dict[str, Any]:
        """The report."""
        return self._thread.run(self._client.report(run))

    def list_reports(self, page_size: int = 0) -> Iterator[dict[str, Any]]:
        """All reports, newest run first."""
        return self._thread.iterate(lambda: self._client.list_reports(page_size))

    def results(self, run: Run | str, benchmark: str = "", **asked: Unpack[ResultFilters]) -> Iterator[dict[str, Any]]:
        """Sample results, one mapping per request."""
        return self._thread.iterate(lambda: self._client.results(run, benchmark, **asked))

    def result_counts(self, run: Run | str, benchmark: str, **asked: Unpack[ResultFilters]) -> dict[str, int]:
        """How many results there are of each grade."""
        return self._thread.run(self._client.result_counts(run, benchmark, **asked))

    def comparison(self, runs: Sequence[Run | str], wish: ComparisonWish | None = None) -> Iterator[dict[str, Any]]:
        """The document of a comparison, then its flips."""
        return self._thread.iterate(lambda: self._client.comparison(runs, wish))

    def compare_runs(self, runs: Sequence[Run | str], wish: ComparisonWish | None = None) -> dict[str, Any]:
        """The comparison with its flips as one document."""
        return self._thread.run(self._client.compare_runs(runs, wish))

    def export(self, run: Run | str, file: str, path: Path) -> Path:
        """Downloads a file of the report."""
        return self._thread.run(self._client.export(run, file, path))

    def list_benchmarks(self) -> Iterator[BenchmarkInfo]:
        """All benchmarks in name order."""
        return self._thread.iterate(self._client.list_benchmarks)

    def get_benchmark(self, name: str) -> BenchmarkInfo:
        """One benchmark."""
        return self._thread.run(self._client.get_benchmark(name))

    def preview_benchmark(
        self,
        spec: BenchmarkSpec,
        *,
        sample_count: int = 1,
        dataset_dir: str = "",
        dataset_hub: HubChoice = "modelscope",
        seed: int = 42,
    ) -> Preview:
        """Samples with the very prompts a run would send."""
        work = self._client.preview_benchmark(
            spec, sample_count=sample_count, dataset_dir=dataset_dir, dataset_hub=dataset_hub, seed=seed
        )
        return self._thread.run(work)

    def validate_benchmarks(self, spec: RunSpec) -> None:
        """Raises when the benchmarks of the spec cannot run on their data."""
        self._thread.run(self._client.validate_benchmarks(spec))

    def estimate_run(self, spec: RunSpec) -> list[BenchmarkEstimate]:
        """What the run would ask, benchmark by benchmark."""
        return self._thread.run(self._client.estimate_run(spec))

    def score(self, benchmark: str, items: Sequence[ScoringItem]) -> list[Score]:
        """Scores up to 1000 completions at once."""
        return self._thread.run(self._client.score(benchmark, items))

    def collect_garbage(
        self, *, min_age_s: float = DEFAULT_MIN_AGE_S, validate_only: bool = False
    ) -> list[CollectedGroup]:
        """Removes objects that nothing refers to; returns what went."""
        return self._thread.run(self._client.collect_garbage(min_age_s=min_age_s, validate_only=validate_only))

    def list_scorers(self) -> Iterator[str]:
        """Kinds of scorers, by name."""
        return self._thread.iterate(self._client.list_scorers)

    def import_completions(self, path: Path) -> ImportedCompletions:
        """Uploads completions made elsewhere."""
        return self._thread.run(self._client.import_completions(path))

    def describe_model(self, model: ModelSpec, kind: RequestKind | None = None) -> ModelDescription:
        """What an endpoint can do, for requests of this kind."""
        return self._thread.run(self._client.describe_model(model, kind))

    def generate(
        self, model: ModelSpec, requests: Iterable[Request], config: GenerationConfig | None = None
    ) -> Iterator[Completion]:
        """Completions as they come in, in no order; errors of the model are inside them."""
        return self._thread.iterate(lambda: self._client.generate(model, requests, config))

    def upload_media(self, data: bytes, mime: str = "") -> ContentPart:
        """Stores an image, a sound or a film, and returns the part that names it in `Message.content`."""
        return self._thread.run(self._client.upload_media(data, mime))

    def create_load_test(
        self, spec: LoadTestSpec, *, request_id: str | None = None, validate_only: bool = False
    ) -> LoadTest:
        """Starts a load test, or just checks it."""
        work = self._client.create_load_test(spec, request_id=request_id, validate_only=validate_only)
        return self._thread.run(work)

    def get_load_test(self, load_test: LoadTest | str) -> LoadTest:
        """The record as it is now."""
        return self._thread.run(self._client.get_load_test(load_test))

    def list_load_tests(self, page_size: int = 0) -> Iterator[LoadTest]:
        """All load tests, newest first."""
        return self._thread.iterate(lambda: self._client.list_load_tests(page_size))

    def watch_load_test(self, load_test: LoadTest | str, *, min_interval_s: float = 0.1) -> Iterator[LoadUpdate]:
        """The load test now, and after each change, until it has ended; with what the generators saw just now."""
        return self._thread.iterate(lambda: self._client.watch_load_test(load_test, min_interval_s=min_interval_s))

    def wait_load_test(self, load_test: LoadTest | str) -> LoadTest:
        """The load test once it has ended."""
        return self._thread.run(self._client.wait_load_test(load_test))

    def cancel_load_test(self, load_test: LoadTest | str) -> LoadTest:
        """Ends the load; what was measured is reported."""
        return self._thread.run(self._client.cancel_load_test(load_test))

    def export_load_test(self, load_test: LoadTest | str, file: str, path: Path) -> Path:
        """Downloads a file of the report."""
        return self._thread.run(self._client.export_load_test(load_test, file, path))

    def perf_report(self, load_test: LoadTest | str) -> dict[str, Any]:
        """The document `perf.json`."""
        return self._thread.run(self._client.perf_report(load_test))

    def import_load_file(self, path: Path) -> str:
        """Uploads a data set or tokenizer; returns its digest."""
        return self._thread.run(self._client.import_load_file(path))

    def validate_load_test(self, spec: LoadTestSpec) -> tuple[str, ...]:
        """What the user should know although nothing is wrong."""
        return self._thread.run(self._client.validate_load_test(spec))

    def preview_load_test(self, spec: LoadTestSpec, request_count: int = 1) -> list[PreviewedRequest]:
        """The first request bodies, as they would be sent."""
        return self._thread.run(self._client.preview_load_test(spec, request_count))

    def list_load_datasets(self) -> Iterator[str]:
        """Names for `PromptSpec.dataset`."""
        return self._thread.iterate(self._client.list_load_datasets)
