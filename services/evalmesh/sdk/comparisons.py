"""Calls that compare runs."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from evalmesh.domain.comparison import ComparisonWish
from evalmesh.domain.run import Run
from evalmesh.sdk.calls import Calls, run_id
from evalmesh.v1 import reports_pb2_grpc
from evalmesh.wire.runs.comparisons import comparison_to_proto
from evalmesh.wire.runs.reports import comparison_part


class ComparisonCalls(Calls):
    """The part of a client that puts runs side by side."""

    async def comparison(self, runs: Sequence[Run | str], wish: ComparisonWish | None = None) -> AsyncIterator[Any]:
        """The document (docs/compare-schema.md), then the flips that are wished for, one by one.

        The first run is the baseline. Raises `InvalidInput` for runs that cannot be compared, `NotFound`.
        """
        request = comparison_to_proto([run_id(run) for run in runs], wish or ComparisonWish())
        stub = self._channel.stub(reports_pb2_grpc.ReportServiceStub)
        async for answer in self._channel.stream(stub.CompareRuns, request):
            if answer.json:
                yield comparison_part(answer.json)
            for flip in answer.flips:
                yield comparison_part(flip)

    async def compare_runs(self, runs: Sequence[Run | str], wish: ComparisonWish | None = None) -> dict[str, Any]:
        """The document, with the flips that are wished for as its `flips`."""
        document, *flips = [part async for part in self.comparison(runs, wish)]
        return {**document, "flips": flips}
