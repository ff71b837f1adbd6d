"""The folder a load test leaves behind: figures, page, requests, and the config that repeats it."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evalmesh.cli.eval.spec import KEY_VARIABLE
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.target import LOCAL_APIS
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.free_values import parse_json
from evalmesh.domain.load_test import LoadTest

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # a look at a file needs no gRPC

REPORT_FILES = ("perf.json", "perf_report.html", "requests.parquet")
_ID_LINE = re.compile(r"^# load test: ([a-z0-9][a-z0-9_.-]*)$", re.MULTILINE)
_NOT_KEPT = frozenset({"api_key", "wandb_api_key", "swanlab_api_key", "dry_run", "debug", "notes"})
_KEY_WORDS = re.compile(r"key|token|secret|password|headers", re.IGNORECASE)
"""Options of exporters that may be keys; they must be given again."""
_PATHS = ("dataset_path", "ca_file")


def folder_of(test: LoadTest, work_dir: Path, *, no_timestamp: bool = False) -> Path:
    """`{work_dir}/{YYYYmmdd_HHMMSS}_{load test}`, by local time; the same each time it is asked for."""
    if no_timestamp:
        return work_dir
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(test.create_time))
    return work_dir / f"{stamp}_{test.id}"


def find_folder(test_id: str, work_dir: Path) -> Path | None:
    """The folder of a load test, whether it has a time in its name or is the work directory itself."""
    for folder in (*sorted(work_dir.glob(f"*_{test_id}")), work_dir):
        if (folder / "perf.yaml").is_file() and load_test_of_folder(folder) == test_id:
            return folder
    return None


def newest_folder(work_dir: Path) -> Path:
    """The folder whose report is the newest. Raises `NotFound`."""
    found = [*work_dir.glob("*/perf.json"), *work_dir.glob("perf.json")]
    if not found:
        raise NotFound(f"There is no load test in {str(work_dir)!r} yet; try: evalmesh perf --help")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def load_test_of_folder(folder: Path) -> str:
    """The load test an outputs folder belongs to. Raises `NotFound`."""
    try:
        found = _ID_LINE.search((folder / "perf.yaml").read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found is None:
        raise NotFound(
            f"{str(folder)!r} is no outputs folder of a load test: it has no perf.yaml that names one. Give the id, as "
            f"`evalmesh perf list` shows it."
        )
    return found[1]


def load_test_id_of(text: str) -> str:
    """The load test named by an id, `loadTests/{id}`, or a path of its outputs. Raises `NotFound`."""
    path = Path(text).expanduser()
    if path.is_dir():
        return load_test_of_folder(path)
    if path.name in {"perf.yaml", *REPORT_FILES}:
        return load_test_of_folder(path.parent)
    return text.removeprefix("loadTests/")


def local_report(text: str) -> Path | None:
    """The perf.json behind a path, if the text is one."""
    path = Path(text).expanduser()
    if path.is_dir():
        path = path / "perf.json"
        if not path.is_file():
            raise NotFound(f"{text!r} holds no perf.json; the load test may have ended before there was a report.")
    return path if path.is_file() else None


def read_report(path: Path) -> dict[str, Any]:
    """A perf.json of a form this build knows. Raises `InvalidInput`."""
    try:
        perf = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        perf = None
    if not isinstance(perf, dict) or "levels" not in perf:
        raise InvalidInput(f"{str(path)!r} is no perf.json of a load test; give the file or folder that one left.")
    if perf.get("schema_version") != 1:
        raise InvalidInput(
            f"{str(path)!r} has schema_version {perf.get('schema_version')!r} and this build reads 1; update evalmesh."
        )
    return perf


def write_perf_yaml(config: PerfConfig, test: LoadTest, folder: Path) -> None:
    """A config that repeats the load test. Never a key in it: at most the name of the variable that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = config.model_dump(mode="json", exclude_defaults=True, exclude=set(_NOT_KEPT))
    values["headers"] = dict(test.spec.target.headers)
    if config.export_args:
        values["export_args"] = {
            name: value for name, value in config.export_args.items() if not _KEY_WORDS.search(name)
        }
    if config.api in LOCAL_APIS:
        values.pop("url", None)  # the next server may have another port
    else:
        values["url"] = config.url or test.spec.target.url
    if test.spec.target.key_ref:
        values["api_key"] = test.spec.target.key_ref
    for name in _PATHS:
        if values.get(name):
            values[name] = str(Path(values[name]).expanduser().absolute())
    for name in ("prompt", "query_template"):
        if str(values.get(name, "")).startswith("@"):
            values[name] = f"@{Path(values[name][1:]).expanduser().absolute()}"
    tokenizer = Path(values.get("tokenizer_path", "")).expanduser()
    if values.get("tokenizer_path") and tokenizer.exists():
        values["tokenizer_path"] = str(tokenizer.absolute())
    text = yaml.safe_dump(
        {key: value for key, value in values.items() if value != {}}, sort_keys=False, allow_unicode=True
    )
    key = f"# export {KEY_VARIABLE}=... first\n" if values.get("api_key") == f"env:{KEY_VARIABLE}" else ""
    head = f"# Repeats the load test below: evalmesh perf -c perf.yaml\n# load test: {test.id}\n{key}"
    (folder / "perf.yaml").write_text(f"{head}{text}", encoding="utf-8")


async def write_outputs(client: "AsyncClient", test: LoadTest, folder: Path) -> dict[str, Any]:
    """Downloads the report and the requests; returns the document. Raises `NotFound`."""
    for name in REPORT_FILES:
        await client.export_load_test(test, name, folder / name)
    return read_report(folder / "perf.json")


async def write_missing_outputs(client: "AsyncClient", test: LoadTest, work_dir: Path) -> Path | None:
    """Outputs of a load test whose command is gone; `None` when it left no folder, or ended before a report."""
    folder = find_folder(test.id, work_dir)
    if folder is None:
        return None
    if not (folder / "perf.json").is_file():
        try:
            await write_outputs(client, test, folder)
        except NotFound:
            return None
    return folder


def summary_of(perf: Mapping[str, Any]) -> str:
    """Model and address of a document in words."""
    target = perf["target"]
    return f"{target['model']} at {target['url']} ({target['api']})"
