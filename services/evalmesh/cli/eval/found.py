"""The runs that a command is given: by their outputs, by the platform's folder, or from a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from evalmesh.cli.addresses import check_server
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.which import LATEST, Known, choose, none_such
from evalmesh.domain.errors import NotFound
from evalmesh.domain.layout import is_safe_name, report_json_key
from evalmesh.domain.run_filter import RunFilter

if TYPE_CHECKING:
    from evalmesh.sdk import Client  # a look at a folder needs no gRPC


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


def find_run(word: str | None, work_dir: Path, server: str | None) -> FoundRun:
    """What was given: an id, a part of one, a name, an outputs folder, a report; nothing means the newest.

    Raises `NotFound`, and `InvalidInput` where it means several.
    """
    given = str(RUNS.newest_folder(work_dir)) if word in {None, LATEST} and not server else word or LATEST
    path = RUNS.report_at(Path(given).expanduser())
    if path is not None:
        return FoundRun(RUNS.read_report(path), path.parent)
    if server:
        from evalmesh.sdk import Client  # noqa: PLC0415  # see above

        check_server(server)
        with Client(server) as client:
            return FoundRun(client.report(id_at(client, given, work_dir)), None)
    run_id = RUNS.id_of(given, work_dir)
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


def id_at(client: "Client", given: str, work_dir: Path) -> str:
    """What a word means to a server."""
    found = None if given == LATEST else RUNS.path_id(given, work_dir)
    if found is not None:
        return found
    runs, _ = client.find_runs(RunFilter(word="" if given == LATEST else given), 1 if given == LATEST else 1000)
    known = [Known(one.id, one.spec.display_name) for one in runs]
    chosen = choose(given, known, noun=RUNS.noun, lister=RUNS.lister)
    if chosen is None:
        raise none_such(given, known, noun=RUNS.noun, lister=f"{RUNS.lister} --server {client.address}")
    return chosen
