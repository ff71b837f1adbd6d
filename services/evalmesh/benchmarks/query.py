"""Which rows a benchmark wants: what is asked of whoever finds data sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from evalmesh.benchmarks import spec as wishes
from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.hub import HubChoice, HubName, Repo
from evalmesh.domain.run import BenchmarkSpec


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """Which rows of which data set."""

    name: str
    """The benchmark's name, for messages and for `{dataset_dir}/{name}`."""
    hub_id: str
    split: str
    called: str = ""
    """What the run calls the benchmark, for advice; empty: as `name`."""
    subset: str = ""
    """Empty for a data set without subsets."""
    revision: str = ""
    local_path: str = ""
    dataset_dir: str = ""
    columns: Sequence[str] = ()
    """Column names for files that have no header."""
    packaged: str = ""
    """File that ships with evalmesh; read unless `local_path` says otherwise."""
    only_subset: bool = False
    """Whether `subset` is the data set's only one, so that file names need not hold it."""
    own: bool = False
    """Whether the user brings the data: any file of a folder may be a subset."""
    published: str = ""
    """Where the data can be got, in words; empty where it is the user's own."""
    few_shot: bool = False
    """Whether these rows become solved examples: a single file given as `local_path` never serves for them."""


def query_for(
    benchmark: Benchmark,
    spec: BenchmarkSpec,
    subset: str = "",
    *,
    dataset_dir: str = "",
    dataset_hub: str = "local",
    few_shot: bool = False,
) -> DatasetQuery:
    """Where the rows of one subset are to be looked for: those to evaluate, or the solved examples.

    Without a subset it serves `DatasetSource.subsets`. `dataset_dir` and `dataset_hub` are those of the `RunSpec`.
    """
    info = benchmark.dataset
    hub_ids = (
        (info.modelscope, info.huggingface) if dataset_hub == "modelscope" else (info.huggingface, info.modelscope)
    )
    # A data set without a list of subsets may hold a file called `default`, or one that names no subset at all.
    alone = len(benchmark.subsets) == 1 or (not benchmark.subsets and subset == wishes.DEFAULT_SUBSET)
    return DatasetQuery(
        name=benchmark.name,
        called=spec.name,
        hub_id=spec.dataset_id or hub_ids[0] or hub_ids[1],
        split=wishes.few_shot_split(benchmark, spec) if few_shot else wishes.split(benchmark, spec),
        # Where a column tells the subsets apart, one file holds them all and is named after none.
        subset="" if info.subset_column else subset,
        revision=spec.revision or "",
        local_path=spec.local_path or "",
        dataset_dir=dataset_dir,
        columns=info.columns,
        packaged=info.packaged,
        only_subset=alone,
        own=benchmark.needs_local_path,
        published=_published(benchmark),
        few_shot=few_shot,
    )


def candidates(benchmark: Benchmark, spec: BenchmarkSpec, dataset_hub: HubChoice) -> Sequence[tuple[Repo, str]]:
    """(repository, revision) on each hub that has the rows, the chosen one first; none for what is no hub's."""
    info = benchmark.dataset
    chosen: Sequence[HubName] = ("modelscope", "huggingface") if dataset_hub == "modelscope" else get_args(HubName)
    if spec.local_path or (info.packaged and not spec.dataset_id):
        return ()
    if spec.dataset_id:
        hubs = chosen if dataset_hub == "local" else chosen[:1]
        return [(Repo(hub, spec.dataset_id), spec.revision or "") for hub in hubs]
    published = {
        "huggingface": (info.huggingface, info.revision),
        "modelscope": (info.modelscope, info.modelscope_revision),
    }
    found = [(Repo(hub, published[hub][0]), spec.revision or published[hub][1]) for hub in chosen if published[hub][0]]
    # A revision that the user names is one of the hub that the user has chosen.
    return found[:1] if spec.revision else found


def published_files(benchmark: Benchmark, spec: BenchmarkSpec) -> Sequence[str]:
    """Paths in the repository of all files that the benchmark reads, where it knows them without a question."""
    if not benchmark.dataset.files or spec.dataset_id or spec.revision:
        return ()
    splits = [wishes.split(benchmark, spec)]
    splits += [wishes.few_shot_split(benchmark, spec)] if wishes.few_shot_num(benchmark, spec) else []
    subsets = wishes.selected_subsets(benchmark, spec)
    return [benchmark.dataset.files.format(subset=one, split=split) for one in subsets for split in splits]


def _published(benchmark: Benchmark) -> str:
    info = benchmark.dataset
    hubs = {"Hugging Face": info.huggingface, "ModelScope": info.modelscope}
    return " and ".join(f"{hub_id} on {hub}" for hub, hub_id in hubs.items() if hub_id)
