"""Where `evalmesh samples` takes its rows from: an outputs folder, the platform's folder, or a server."""

import argparse
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from evalmesh.cli.eval.found import id_at
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.which import LATEST
from evalmesh.domain.errors import NotFound
from evalmesh.domain.layout import is_safe_name, report_json_key
from evalmesh.domain.natural_order import natural
from evalmesh.domain.result_query import ResultQuery
from evalmesh.results.query import ResultsFile
from evalmesh.sdk import Client


class Source(Protocol):
    """The results of one run."""

    @property
    def benchmarks(self) -> list[str]:
        """Their names, as reported."""
        ...

    def subsets(self, benchmark: str) -> list[str]:
        """Of a benchmark."""
        ...

    def counts(self, benchmark: str, query: ResultQuery) -> dict[str, int]:
        """Rows by grade, whatever grades are asked for."""
        ...

    def rows(self, benchmark: str, query: ResultQuery, most: int | None) -> Iterator[dict[str, Any]]:
        """At most so many."""
        ...


class FileSource:
    """Results files on this machine; nothing else of the run need be there."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = {path.stem: path for path in paths}

    @property
    def benchmarks(self) -> list[str]:
        return list(self._paths)

    def subsets(self, benchmark: str) -> list[str]:
        with ResultsFile(self._paths[benchmark]) as results:
            return list(dict.fromkeys(row["subset"] for row in results.rows(ResultQuery(columns=("subset",)))))

    def counts(self, benchmark: str, query: ResultQuery) -> dict[str, int]:
        with ResultsFile(self._paths[benchmark]) as results:
            return results.counts(query)

    def rows(self, benchmark: str, query: ResultQuery, most: int | None) -> Iterator[dict[str, Any]]:
        with ResultsFile(self._paths[benchmark]) as results:
            yield from results.rows(query, most)


class ServerSource:
    """A run of a platform."""

    def __init__(self, client: Client, run: str) -> None:
        self._client, self._run = client, run
        self._report = client.report(run)

    @property
    def benchmarks(self) -> list[str]:
        return [one["name"] for one in self._report["benchmarks"]]

    def subsets(self, benchmark: str) -> list[str]:
        return [s["name"] for one in self._report["benchmarks"] if one["name"] == benchmark for s in one["subsets"]]

    def counts(self, benchmark: str, query: ResultQuery) -> dict[str, int]:
        return self._client.result_counts(self._run, benchmark, **query.filters())

    def rows(self, benchmark: str, query: ResultQuery, most: int | None) -> Iterator[dict[str, Any]]:
        found = self._client.results(self._run, benchmark, **query.filters())
        for count, row in enumerate(found):
            if most is not None and count >= most:
                return
            yield row


def server_source(client: Client, args: argparse.Namespace) -> Source:
    """A run of a server by what users call it; the newest with a report where none is named. Raises `NotFound`."""
    if args.run and args.run != LATEST:
        return ServerSource(client, id_at(client, args.run, Path(args.work_dir).expanduser()))
    for report in client.list_reports(page_size=1):
        return ServerSource(client, report["run"]["id"])
    raise NotFound("There is no run with a report at this server yet.")


def local_source(args: argparse.Namespace) -> Source:
    """A run by what users call it: its folder, a file in it, its id. Raises `NotFound`."""
    work_dir = Path(args.work_dir).expanduser()
    given = args.run if args.run and args.run != LATEST else str(RUNS.newest_folder(work_dir))
    path = Path(given).expanduser()
    if path.suffix == ".parquet" and path.is_file():
        return FileSource([path])
    for folder in (path, path.parent) if path.exists() else ():
        if files := _results_in(folder):
            return FileSource(files)
    try:
        run_id = RUNS.id_of(given, work_dir)
    except NotFound as error:
        hint = f" For a sample of the newest run: evalmesh samples {LATEST} {given}"
        raise NotFound(error.message if path.exists() else f"{error.message}{hint}", error.details) from None
    if is_safe_name(run_id):
        found = RUNS.find_folder(run_id, work_dir)
        stored = (work_dir / ".evalmesh" / "objects" / report_json_key(run_id)).parent
        for folder in (*([found] if found else []), stored):
            if files := _results_in(folder):
                return FileSource(files)
    raise NotFound(
        f"There are no results of {run_id!r} below {str(work_dir)!r}. See `evalmesh runs list`, name another "
        "--work-dir, or a platform with --server; a run that was cut short gets them from `evalmesh runs resume`."
    )


def _results_in(folder: Path) -> list[Path]:
    return sorted((folder / "results").glob("*.parquet")) or sorted(folder.glob("*.parquet"))


def pick(source: Source, benchmark: str, subset: str) -> list[str]:
    """The benchmarks to look at. Raises `NotFound` where there is no such benchmark or subset."""
    names = source.benchmarks
    if benchmark and benchmark not in names:
        raise NotFound(_none_such("benchmark", benchmark, names), {"field": "benchmark"})
    chosen = [benchmark] if benchmark else names
    if not subset:
        return chosen
    subsets = {name: source.subsets(name) for name in chosen}
    found = [name for name in chosen if subset in subsets[name]]
    if not found:
        known = sorted({one for some in subsets.values() for one in some}, key=natural)
        raise NotFound(_none_such("subset", subset, known), {"field": "subset"})
    return found


def _none_such(field: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    hint = f"Did you mean {near[0]}?" if near else f"There are {shown}." if known else "There is none."
    return f"{field}: this run has no {name!r}. {hint}"
