"""What the simulated model has learnt: the rows of the benchmarks it is started for."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.columns import Headings
from evalmesh.benchmarks.query import query_for
from evalmesh.benchmarks.samples import MalformedRow, RowSource, iter_samples
from evalmesh.benchmarks.spec import selected_subsets
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.ports.dataset_source import DatasetSource
from evalmesh.simulator.skill import KnownSample


def load_known(
    names: Sequence[str],
    dataset_args: Mapping[str, Mapping[str, Any]] | None = None,
    dataset_dir: str = "",
    source: DatasetSource | None = None,
) -> tuple[KnownSample, ...]:
    """All samples of these benchmarks; subsets that are not on disk are left out unless they are named.

    Args:
        names: Benchmarks.
        dataset_args: Per benchmark: `local_path`, `dataset_id`, `subset_list`, `eval_split` (or `split`); other
            settings of a run are accepted and change nothing here.
        dataset_dir: Where data sets lie, as for a run.
        source: Where rows come from; `None`: this machine's files.

    Raises:
        NotFound: Nothing is there for a benchmark, or for a subset that was named.
        InvalidInput: There is no such benchmark.
    """
    datasets = source or LocalDatasets()
    arguments = dataset_args or {}
    for name in arguments:
        if name not in names:
            raise InvalidInput(
                f"The dataset arguments name '{name}', which is not among the benchmarks ({', '.join(names)}).",
                {"field": "dataset_args"},
            )
    known: list[KnownSample] = []
    for name in names:
        own = arguments.get(name, {})
        known.extend(_load(registry.get(str(own.get("benchmark") or name)), own, dataset_dir, datasets))
    return tuple(known)


def _load(
    benchmark: Benchmark, arguments: Mapping[str, Any], dataset_dir: str, datasets: DatasetSource
) -> Iterator[KnownSample]:
    named = arguments.get("subset_list") or arguments.get("subsets")
    form = RowForm(arguments.get("columns") or {}, arguments.get("encoding") or "", arguments.get("delimiter") or "")
    spec = BenchmarkSpec(
        name=benchmark.name,
        local_path=arguments.get("local_path"),
        dataset_id=arguments.get("dataset_id"),
        subsets=tuple(named) if named else None,
        split=arguments.get("eval_split") or arguments.get("split"),
        form=form,
    )
    found = () if benchmark.subsets else datasets.subsets(query_for(benchmark, spec, dataset_dir=dataset_dir))
    subsets = selected_subsets(benchmark, spec, found)
    missing: NotFound | None = None
    n_found = 0
    for subset in subsets:
        query = query_for(benchmark, spec, subset, dataset_dir=dataset_dir)
        try:
            files = datasets.resolve(query)
        except NotFound as error:
            if named:
                raise
            missing = error
            continue
        n_found += 1
        rows = RowSource(
            partial(datasets.rows, files, query.columns, form), headings=Headings(benchmark.columns, form.columns)
        )
        for sample in iter_samples(benchmark, spec, rows, subset, limit=None, seed=0):
            if not isinstance(sample, MalformedRow):
                yield KnownSample(benchmark.name, sample)
    if not n_found and missing is not None:
        raise missing
