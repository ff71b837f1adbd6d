"""What a run leaves in its folder beside its config and logs: report, results, the layout of EvalScope."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalmesh.cli.eval.layout_export import export_evalscope_layout
from evalmesh.cli.outputs import RUNS
from evalmesh.domain.run import Run
from evalmesh.results.table import read_results
from evalmesh.sdk import AsyncClient


async def write_outputs(client: AsyncClient, run: Run, folder: Path) -> dict[str, Any]:
    """Downloads the report and the results, derives EvalScope's layout; returns the report. Raises `NotFound`."""
    report_path = await client.export(run, "report.json", folder / "report.json")
    report: dict[str, Any] = json.loads(report_path.read_text(encoding="utf-8"))
    await client.export(run, "report.html", folder / "report.html")
    tables = []
    for benchmark in report["benchmarks"]:
        file = f"results/{benchmark['name']}.parquet"
        tables.append(await client.export(run, file, folder / file))
    rows = None if _without_copies(run, folder) else _rows(tables)
    await asyncio.to_thread(export_evalscope_layout, rows, report, folder)
    return report


def _without_copies(run: Run, folder: Path) -> bool:
    """What was said when the run was submitted, or where that was too long to travel, in the config beside it."""
    if said := _said(run):
        return said.get("no_predictions") is True
    try:
        config = (folder / RUNS.config_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r"^no_predictions: true$", config, re.MULTILINE) is not None


def _said(run: Run) -> dict[str, Any]:
    try:
        said = json.loads(run.spec.client_config or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def write_config_of(run: Run, folder: Path) -> None:
    """The config of a run that was submitted elsewhere, by what its client said of it, where there is none yet."""
    if (folder / RUNS.config_file).is_file():
        return
    RUNS.write_config(_said(run), run, folder)


def _rows(tables: list[Path]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from read_results(table)
