"""The runs that a command is given: by their outputs, by the platform's folder, or from a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from evalmesh.cli.outputs import RUNS
from evalmesh.cli.parser import PlaceOptions
from evalmesh.domain.errors import NotFound
from evalmesh.domain.layout import is_safe_name, report_json_key
from evalmesh.sdk import Client


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run with a report."""

    report: Mapping[str, Any]
    folder: Path | None
    """Where its report lies, and its results beside it; `None`: on the server."""

    @property
    def id(self) -> str:
        """Of the run."""
        return str(self.report["run"]["id"])

    def open(self, benchmark: str) -> BinaryIO:
        """Its results of a benchmark. Raises `NotFound`."""
        path = (self.folder or Path()) / "results" / f"{benchmark}.parquet"
        try:
            return path.open("rb")
        except OSError as error:
            raise NotFound(
                f"{str(path)!r} cannot be read, and what {self.id} answered is in it; give the whole outputs folder "
                "or the run's id."
            ) from error


def find_run(given: str | None, work_dir: Path, server: str | None) -> FoundRun:
    """What was given: an id, an outputs folder, a report; nothing means the newest. Raises `NotFound`."""
    if work_dir != Path(PlaceOptions.work_dir) and not server and not work_dir.is_dir():
        raise NotFound(f"work_dir: {str(work_dir)!r} is no folder that exists.", {"field": "work_dir"})
    text = given or str(RUNS.newest_folder(work_dir))
    path = RUNS.report_at(Path(text).expanduser())
    if path is not None:
        return FoundRun(RUNS.read_report(path), path.parent)
    run_id = RUNS.id_of(text)
    if server:
        with Client(server) as client:
            return FoundRun(client.report(run_id), None)
    if is_safe_name(run_id):
        folder = RUNS.find_folder(run_id, work_dir)
        stored = work_dir / ".evalmesh" / "objects" / report_json_key(run_id)
        for place in (*([folder] if folder else []), stored):
            if (path := RUNS.report_at(place)) is not None:
                return FoundRun(RUNS.read_report(path), path.parent)
    raise NotFound(
        f"There is no report of {run_id!r} below {str(work_dir)!r}. See `evalmesh runs list`, name another --work-dir, "
        f"or a platform with --server; a run that was cut short gets its report from `evalmesh runs resume`."
    )
