"""Runs compared where they lie, for the command and from Python."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evalmesh.cli.documents import html_table, load_pandas
from evalmesh.cli.eval.compare_forms import effect_rows
from evalmesh.cli.eval.found import FoundRun, find_run
from evalmesh.domain.comparison import ComparisonWish
from evalmesh.results.comparing.alike import Source
from evalmesh.results.comparing.comparison import compare_runs
from evalmesh.sdk import Client

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """What a comparison found."""

    document: dict[str, Any]
    """docs/compare-schema.md."""
    flips: list[dict[str, Any]]
    """Samples that differ, with both answers."""

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per run, benchmark, subset (empty: the whole) and metric."""
        return list(effect_rows(self.document))

    def to_dataframe(self) -> "pd.DataFrame":
        """`rows` as a pandas table. Raises `FailedPrecondition` where pandas is not installed."""
        return load_pandas().DataFrame(self.rows())

    def __repr__(self) -> str:
        names = (one["label"] for one in self.document["runs"])
        return f"<ComparedRuns {', '.join(names)}: {len(self.flips)} flips>"

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.rows())


def compare(
    *runs: str | Path,
    datasets: Sequence[str] = (),
    all_metrics: bool = False,
    force: bool = False,
    flips: int | None = 100,
    work_dir: str | Path = "./outputs",
    server: str | None = None,
) -> ComparedRuns:
    """Compares runs with the first of them, sample by sample; blocks.

    Args:
        runs: Ids, outputs folders or report files.
        datasets: Only these benchmarks.
        all_metrics: Every metric, not the primary ones alone.
        force: Compare what may have been scored unlike, too.
        flips: At most so many samples that differ of each benchmark of each run; `None`: all.
        work_dir: Where runs that are named by id are looked for.
        server: A platform that has them, `host:port`.

    Raises:
        InvalidInput: They cannot be compared.
        NotFound: One of them is not there.
    """
    wish = ComparisonWish(tuple(datasets), all_metrics=all_metrics, force=force, flips=flips)
    with ExitStack() as stack:
        document, *found = compared([str(run) for run in runs], wish, (Path(work_dir).expanduser(), server), stack)
    return ComparedRuns(document, found)


def compared(
    runs: Sequence[str], wish: ComparisonWish, place: tuple[Path, str | None], stack: ExitStack
) -> Iterator[dict[str, Any]]:
    """The document, then its flips: from the server where it has all of the runs, else from files.

    Args:
        runs: As they were named.
        wish: What is wanted.
        place: Work directory and server.
        stack: Holds what must stay open until the flips are read.
    """
    server = place[1]
    found = [find_run(text, *place) for text in runs]
    if server and all(one.folder is None for one in found):
        client = stack.enter_context(Client(server))
        return client.comparison([one.id for one in found], wish)
    near = [_near(one, wish, server, stack) for one in found]
    sources = [Source(one.report, one.open) for one in near]
    comparison = compare_runs(sources, wish, datetime.now(UTC).isoformat(timespec="seconds"))
    flips = iter(()) if wish.flips == 0 else comparison.flips(wish.flips, texts=wish.texts)
    return chain([comparison.document], flips)


def _near(one: FoundRun, wish: ComparisonWish, server: str | None, stack: ExitStack) -> FoundRun:
    """The run with its results on this machine: the others it is compared with lie here."""
    if one.folder is not None or server is None:
        return one
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="evalmesh-compare-")))
    with Client(server) as client:
        for benchmark in one.report["benchmarks"]:
            if not wish.benchmarks or benchmark["name"] in wish.benchmarks:
                file = f"results/{benchmark['name']}.parquet"
                client.export(one.id, file, folder / file)
    return replace(one, folder=folder)
