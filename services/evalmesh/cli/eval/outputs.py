"""The folder a run leaves behind: report, results, the layout of EvalScope, the config that repeats the run, logs."""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from evalmesh.cli.connections import KEY_VARIABLE
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.layout_export import export_evalscope_layout
from evalmesh.cli.eval.spec import key_reference
from evalmesh.domain.errors import NotFound
from evalmesh.domain.run import Run
from evalmesh.results.table import read_results
from evalmesh.sdk import AsyncClient

_RUN_LINE = re.compile(r"^# run: ([a-z0-9][a-z0-9_.-]*)$", re.MULTILINE)


def folder_of(run: Run, work_dir: Path, *, no_timestamp: bool = False) -> Path:
    """`{work_dir}/{YYYYmmdd_HHMMSS}_{run}`, by local time; the same each time it is asked for."""
    if no_timestamp:
        return work_dir
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(run.create_time))
    return work_dir / f"{stamp}_{run.id}"


def find_folder(run_id: str, work_dir: Path) -> Path | None:
    """The folder of a run, whether it has a time in its name or is the work directory itself."""
    for folder in (*sorted(work_dir.glob(f"*_{run_id}")), work_dir):
        if (folder / "run.yaml").is_file() and run_of_folder(folder) == run_id:
            return folder
    return None


def run_of_folder(folder: Path) -> str:
    """The run an outputs folder belongs to. Raises `NotFound`."""
    try:
        found = _RUN_LINE.search((folder / "run.yaml").read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found is None:
        raise NotFound(
            f"{str(folder)!r} is no outputs folder of a run: it has no run.yaml that names one. Give the run's id, as "
            f"`evalmesh runs list` shows it."
        )
    return found[1]


def run_id_of(text: str) -> str:
    """The run named by an id, `runs/{id}`, or the path of an outputs folder. Raises `NotFound`."""
    path = Path(text).expanduser()
    if path.is_dir():
        return run_of_folder(path)
    if path.name in {"run.yaml", "report.json"}:
        return run_of_folder(path.parent)
    return text.removeprefix("runs/")


def write_run_yaml(config: TaskConfig, run: Run, folder: Path) -> None:
    """A config that repeats the run. Never a key in it: at most the name of the variable that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"api_key", "dry_run", "debug"})
    if config.demo:
        values.pop("api_url", None)  # the next simulated model may have another port
    elif reference := run.spec.model.key_ref or ("" if config.api_key is None else key_reference(config)):
        values["api_key"] = reference
    for name in ("dataset_dir", "completions"):
        if values.get(name) and not config.server:
            values[name] = str(Path(values[name]).expanduser().absolute())
    for name, args in values.get("dataset_args", {}).items():
        local = next((b.local_path for b in run.spec.benchmarks if b.name == name), None)
        if "local_path" in args and local:
            args["local_path"] = local
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    key = f"# export {KEY_VARIABLE}=... first\n" if values.get("api_key") == f"env:{KEY_VARIABLE}" else ""
    head = f"# Repeats the run below: evalmesh eval -c run.yaml\n# run: {run.id}\n{key}"
    (folder / "run.yaml").write_text(f"{head}{text}", encoding="utf-8")


async def write_outputs(client: AsyncClient, run: Run, folder: Path) -> dict[str, Any]:
    """Downloads the report and the results, derives EvalScope's layout; returns the report. Raises `NotFound`."""
    report_path = await client.export(run, "report.json", folder / "report.json")
    report: dict[str, Any] = json.loads(report_path.read_text(encoding="utf-8"))
    await client.export(run, "report.html", folder / "report.html")
    tables = []
    for benchmark in report["benchmarks"]:
        file = f"results/{benchmark['name']}.parquet"
        tables.append(await client.export(run, file, folder / file))
    await asyncio.to_thread(export_evalscope_layout, _rows(tables), report, folder)
    return report


def _rows(tables: list[Path]) -> Iterator[dict[str, Any]]:
    for table in tables:
        yield from read_results(table)


def lost_count(report: Mapping[str, Any]) -> tuple[int, int]:
    """(requests with a score, requests without one), by the primary metric of each benchmark."""
    scored = lost = 0
    for benchmark in report["benchmarks"]:
        metric = next(m for m in benchmark["metrics"] if m["name"] == benchmark["primary_metric"])
        scored += metric["n_scored"]
        lost += metric["n_errored"] + metric["n_unscored"] + benchmark["n_not_run"]
    return scored, lost + len(report["benchmarks_not_reported"])
