"""A CSV file: one figure a row, as spreadsheets and `pandas.read_csv` take it. Option: path. Needs no package.

Without a path it is `figures.csv` beside the outputs.
"""

import csv
from pathlib import Path

from evalmesh.adapters.exporters.job import Job
from evalmesh.domain.errors import InvalidInput

_HEAD = ("id", "name", "model", "step", "label", "figure", "value")


def send(job: Job) -> str:
    """See `export`."""
    path, record = _path(job), job.record
    about = (record.id, job.run_name, record.model)
    rows = [
        (*about, str(one.step), one.label, name, value) for one in record.steps for name, value in one.figures.items()
    ]
    rows += [(*about, "", "", name, value) for name, value in record.summary.items()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_HEAD)
        writer.writerows(rows)
    return f"{path} ({len(rows)} figures)"


def check(job: Job) -> None:
    """See `exporting.check`."""
    folder = _path(job).absolute().parent
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {str(folder)!r} for the file; make it, or give another path.")


def _path(job: Job) -> Path:
    return Path(job.option("path") or job.folder / "figures.csv").expanduser()
