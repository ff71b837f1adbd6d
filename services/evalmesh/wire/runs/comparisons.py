"""What is asked of a comparison, as it travels."""

from collections.abc import Sequence

from evalmesh.domain.comparison import MOST_RUNS, ComparisonWish
from evalmesh.domain.errors import InvalidInput
from evalmesh.v1 import reports_pb2 as pb
from evalmesh.wire.names import make_name, parse_name

_ALL = -1


def comparison_to_proto(runs: Sequence[str], wish: ComparisonWish) -> pb.CompareRunsRequest:
    """`runs` are ids."""
    return pb.CompareRunsRequest(
        runs=[make_name("runs", run) for run in runs],
        benchmarks=wish.benchmarks,
        all_metrics=wish.all_metrics,
        judged_metrics=[
            pb.JudgedMetric(benchmark=benchmark, subset=subset, metric=metric)
            for benchmark, subset, metric in sorted(wish.judged)
        ],
        force=wish.force,
        flip_count=_ALL if wish.flips is None else wish.flips,
        completions=wish.texts,
    )


def comparison_from_proto(request: pb.CompareRunsRequest) -> tuple[list[str], ComparisonWish]:
    """Ids of runs, and what is wanted. Raises `InvalidInput`."""
    if not 2 <= len(request.runs) <= MOST_RUNS:
        raise InvalidInput(
            f"runs: a comparison is of 2 to {MOST_RUNS} runs, the baseline first; these are {len(request.runs)}.",
            {"field": "runs"},
        )
    if request.flip_count < _ALL:
        raise InvalidInput(
            f"flip_count: {request.flip_count} is below -1, which asks for all.", {"field": "flip_count"}
        )
    wish = ComparisonWish(
        benchmarks=tuple(request.benchmarks),
        all_metrics=request.all_metrics,
        judged=frozenset((one.benchmark, one.subset, one.metric) for one in request.judged_metrics),
        force=request.force,
        flips=None if request.flip_count == _ALL else request.flip_count,
        texts=request.completions,
    )
    return [parse_name("runs", run) for run in request.runs], wish
