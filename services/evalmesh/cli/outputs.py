"""What a run or a load test leaves behind: its folder, how it is found again, the config that repeats it."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from evalmesh.cli.connections import KEY_VARIABLE
from evalmesh.cli.headers import PREFIX
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.free_values import parse_json
from evalmesh.results.json_values import plain, public_url
from evalmesh.wire.runs.checks import KEY_REF, MOST_CLIENT_CONFIG_BYTES

_PLACE = ("work_dir", "no_timestamp")
_ADDRESS = re.compile(r"https?://\S+")


class Submission(Protocol):
    """A run or a load test."""

    @property
    def id(self) -> str: ...
    @property
    def create_time(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """How the outputs of one kind of submission are laid out."""

    noun: str
    """`run`; its first line in the config file says `# run: ID`."""
    command: str
    """`eval`, which takes the config file."""
    config_file: str
    report_file: str
    report_part: str
    """What every report has: `benchmarks`."""
    collection: str
    """Of the resource's name: `runs`."""
    lister: str
    """The command that shows ids."""
    other_files: tuple[str, ...] = ()

    def folder_of(self, one: Submission, work_dir: Path, *, no_timestamp: bool = False) -> Path:
        """`{work_dir}/{YYYYmmdd_HHMMSS}_{id}`, by local time; the same each time it is asked for."""
        if no_timestamp:
            return work_dir
        return work_dir / f"{time.strftime('%Y%m%d_%H%M%S', time.localtime(one.create_time))}_{one.id}"

    def find_folder(self, one_id: str, work_dir: Path) -> Path | None:
        """The folder of an id, whether it has a time in its name or is the work directory itself."""
        for folder in (*sorted(work_dir.glob(f"*_{one_id}")), work_dir):
            if (folder / self.config_file).is_file() and self.id_in(folder) == one_id:
                return folder
        return None

    def newest_folder(self, work_dir: Path) -> Path:
        """The folder whose report is the newest. Raises `NotFound`."""
        found = [*work_dir.glob(f"*/{self.report_file}"), *work_dir.glob(self.report_file)]
        if not found:
            hint = "evalmesh eval --demo" if self.command == "eval" else "evalmesh perf --help"
            raise NotFound(f"There is no {self.noun} with a report below {str(work_dir)!r} yet; try: {hint}")
        return max(found, key=lambda path: path.stat().st_mtime).parent

    def id_in(self, folder: Path) -> str:
        """Whose outputs a folder holds. Raises `NotFound`."""
        try:
            text = (folder / self.config_file).read_text(encoding="utf-8")
        except OSError:
            text = ""
        found = re.search(rf"^# {self.noun}: ([a-z0-9][a-z0-9_.-]*)$", text, re.MULTILINE)
        if found is None:
            raise NotFound(
                f"{str(folder)!r} is no outputs folder of a {self.noun}: it holds no {self.report_file}, and no "
                f"{self.config_file} that names one. Give the id, as `{self.lister}` shows it."
            )
        return found[1]

    def id_of(self, text: str) -> str:
        """What an id, a resource name, an outputs folder or a file in one names. Raises `NotFound`."""
        path = Path(text).expanduser()
        if path.is_dir():
            return self.id_in(path)
        if path.name in {self.config_file, self.report_file, *self.other_files}:
            return self.id_in(path.parent)
        named = text.removeprefix(f"{self.collection}/")
        if "/" in named:
            raise NotFound(f"{text!r} does not exist; give an outputs folder, or an id as `{self.lister}` shows it.")
        return named

    def report_at(self, path: Path) -> Path | None:
        """The report that a file or a folder is; `None` where there is none."""
        file = path / self.report_file if path.is_dir() else path
        return file if file.is_file() else None

    def read_report(self, path: Path) -> dict[str, Any]:
        """A report of a form this build knows. Raises `InvalidInput`."""
        try:
            report = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = None
        if not isinstance(report, dict) or self.report_part not in report:
            raise InvalidInput(
                f"{str(path)!r} is no {self.report_file} of a {self.noun}; give the file or folder that one left."
            )
        if report.get("schema_version") != 1:
            raise InvalidInput(
                f"{str(path)!r} has schema_version {report.get('schema_version')!r} and this build reads 1; update "
                "evalmesh."
            )
        return report

    def write_config(self, values: Mapping[str, Any], one: Submission, folder: Path) -> None:
        """The config that asks for the same again. `values` hold no key, at most the name of what holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        held = [values.get("api_key"), *dict(values.get("headers") or {}).values()]
        key = "".join(f"# export {one[4:]}=... first\n" for one in held if str(one).startswith(_TYPED))
        head = f"# Repeats the {self.noun} below: evalmesh {self.command} -c {self.config_file}\n"
        (folder / self.config_file).write_text(f"{head}# {self.noun}: {one.id}\n{key}{text}", encoding="utf-8")


_TYPED = (f"env:{KEY_VARIABLE}", f"env:{PREFIX}")
"""References to keys that were typed, which are kept nowhere."""

RUNS = Outputs("run", "eval", "run.yaml", "report.json", "benchmarks", "runs", "evalmesh runs list")
LOAD_TESTS = Outputs(
    "load test",
    "perf",
    "perf.yaml",
    "perf.json",
    "levels",
    "loadTests",
    "evalmesh perf list",
    ("perf_report.html", "requests.parquet"),
)


def client_config(values: Mapping[str, Any]) -> str:
    """A config as it travels with a spec, for everybody who may see that: JSON, empty where it would be too long.

    As in reports, addresses are without what may carry a key, and headers that are no references are masked.
    """
    shown = plain(_public({name: value for name, value in values.items() if name not in _PLACE}))
    text = json.dumps(shown | {name: values[name] for name in ("api_key",) if name in values})
    return text if len(text) <= MOST_CLIENT_CONFIG_BYTES else ""


def _public(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        if name in {"headers", "extra_headers"}:
            return {one: text if KEY_REF.fullmatch(str(text)) else "***" for one, text in value.items()}
        return {one: _public(held, one) for one, held in value.items()}
    if isinstance(value, list):
        return [_public(held) for held in value]
    return public_url(value) if isinstance(value, str) and _ADDRESS.fullmatch(value) else value
