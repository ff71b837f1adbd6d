"""What a run or a load test leaves behind: its folder, how it is found again, the config that repeats it."""

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from evalmesh.cli.connections import KEY_VARIABLE
from evalmesh.cli.folders import check_readable
from evalmesh.cli.headers import PREFIX
from evalmesh.cli.which import Known, choose, id_in_folder_name, is_whole, none_such
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.free_values import parse_json
from evalmesh.results.json_values import plain, public_url

_PLACE = ("work_dir", "no_timestamp", "overwrite")
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
    """Files beside the report by which it may be named."""
    folders: tuple[str, ...] = ()
    """What else it leaves there."""

    def check_free(self, work_dir: Path, *, no_timestamp: bool, overwrite: bool) -> None:
        """Raises `InvalidInput` where the outputs of another one would be replaced unasked."""
        if not no_timestamp or overwrite or not (work_dir / self.report_file).is_file():
            return
        there = self._look_at(work_dir)
        raise InvalidInput(
            f"no_timestamp: {str(work_dir)!r} holds the outputs of {self.noun} {there.id if there else 'another one'}; "
            "choose another work_dir, leave out no_timestamp, or say overwrite (--overwrite) to replace them.",
            {"field": "no_timestamp"},
        )

    def clear(self, folder: Path, work_dir: Path) -> None:
        """Removes the outputs there: the folder, or where that is the work directory, what is the outputs' in it."""
        if folder.resolve() != work_dir.resolve():
            shutil.rmtree(folder, ignore_errors=True)
            return
        for name in (self.config_file, self.report_file, *self.other_files, *self.folders):
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

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
        """The folder of the newest one that has a report. Raises `NotFound`."""
        found = [*work_dir.glob(f"*/{self.report_file}"), *work_dir.glob(self.report_file)]
        if not found:
            hint = "evalmesh eval --demo" if self.command == "eval" else "evalmesh perf --help"
            raise NotFound(f"There is no {self.noun} with a report below {str(work_dir)!r} yet; try: {hint}")

        def age(path: Path) -> tuple[str, float]:
            # Ids sort by time; a report that was written again, or copied, is none the newer for it.
            known = self._look_at(path.parent)
            return known.id if known else "", path.stat().st_mtime

        return max(found, key=age).parent

    def _look_at(self, folder: Path) -> Known | None:
        """Whose outputs a folder holds, by its config; `None` where that does not say."""
        try:
            text = (folder / self.config_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        found = re.search(rf"^# {self.noun}: ([a-z0-9][a-z0-9_.-]*)$", text, re.MULTILINE)
        return Known(found[1], _name_in(text)) if found else None

    def id_in(self, folder: Path) -> str:
        """Whose outputs a folder holds. Raises `NotFound`."""
        known = self._look_at(folder)
        if known is None:
            raise NotFound(
                f"{str(folder)!r} is no outputs folder of a {self.noun}: it holds no {self.report_file}, and no "
                f"{self.config_file} that names one. Give the id, as `{self.lister}` shows it."
            )
        return known.id

    def known_in(self, work_dir: Path) -> list[Known]:
        """All that have left something in a work directory: outputs, or data of the platform there."""
        looked = (
            self._look_at(path.parent)
            for path in (*work_dir.glob(f"*/{self.config_file}"), work_dir / self.config_file)
        )
        found = {known.id: known for known in looked if known is not None}
        # What was deleted may leave empty folders.
        below = (work_dir / ".evalmesh" / "objects" / self.collection.lower()).glob("*")
        stored = [path for path in below if any(one.is_file() for one in path.rglob("*"))]
        return [*found.values(), *(_stored(path) for path in stored if path.name not in found)]

    def path_id(self, text: str, work_dir: Path | None = None) -> str | None:
        """The id, where `text` is a whole id, a resource name, an outputs folder or a file in one. Raises `NotFound`.

        An outputs folder may be named by its last part alone.
        """
        path = Path(text).expanduser()
        if path.is_dir():
            check_readable(path)
            return self.id_in(path)
        if path.name in {self.config_file, self.report_file, *self.other_files}:
            return self.id_in(path.parent)
        bare = text.removeprefix(f"{self.collection}/")
        if bare != text or is_whole(bare):
            return bare
        inside = self._look_at(work_dir / text) if work_dir is not None and text else None
        if inside is None and "/" in text:
            raise NotFound(f"{text!r} does not exist; give an outputs folder, or an id as `{self.lister}` shows it.")
        return inside.id if inside is not None else id_in_folder_name(text)

    def id_of(self, text: str, work_dir: Path | None = None) -> str:
        """What the user means, by what lies in the work directory.

        An id, its beginning or end, a name, `latest`, a resource name, an outputs folder or its last part, or a file in
        one. Raises `NotFound`, and `InvalidInput` where it means several.
        """
        found = self.path_id(text, work_dir)
        if found is not None:
            return found
        if work_dir is None:
            return text
        known = self.known_in(work_dir)
        chosen = choose(text, known, noun=self.noun, lister=self.lister)
        if chosen is None:
            where = f" below {str(work_dir)!r}"
            raise none_such(text, known, noun=self.noun, lister=self.lister, where=where)
        return chosen

    def report_at(self, path: Path) -> Path | None:
        """The report that a file or a folder is; `None` where there is none."""
        file = path / self.report_file if path.is_dir() else path
        return file if file.is_file() else None

    def read_report(self, path: Path) -> dict[str, Any]:
        """A report of a form this build knows. Raises `InvalidInput`."""
        try:
            report = parse_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInput(f"{str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}.") from None
        except ValueError:
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
        # Whoever repeats it says again where it goes, and what may be replaced.
        text = yaml.safe_dump(
            {key: value for key, value in values.items() if key not in {"no_timestamp", "overwrite"}},
            sort_keys=False,
            allow_unicode=True,
            width=1 << 16,
        )
        held = [values.get("api_key"), *dict(values.get("headers") or {}).values()]
        key = "".join(f"# export {one[4:]}=... first\n" for one in held if str(one).startswith(_TYPED))
        head = f"# Repeats the {self.noun} below: evalmesh {self.command} -c {self.config_file}\n"
        (folder / self.config_file).write_text(f"{head}# {self.noun}: {one.id}\n{key}{text}", encoding="utf-8")


def _name_in(config: str) -> str:
    """What a config file says as name; its text is not parsed, since a list looks at many."""
    found = re.search(r"^name: (.*)$", config, re.MULTILINE)
    try:
        return str(yaml.safe_load(found[1])) if found else ""
    except yaml.YAMLError:
        return ""


def _stored(folder: Path) -> Known:
    """One of which there are only the platform's data."""
    try:
        spec = json.loads((folder / "spec.json").read_bytes())
        return Known(folder.name, str(spec.get("display_name", "")))
    except (OSError, ValueError, AttributeError):
        return Known(folder.name)


_TYPED = (f"env:{KEY_VARIABLE}", f"env:{PREFIX}")
"""References to keys that were typed, which are kept nowhere."""

RUNS = Outputs(
    "run",
    "eval",
    "run.yaml",
    "report.json",
    "benchmarks",
    "runs",
    "evalmesh runs list",
    ("report.html",),
    ("results", "predictions", "reviews", "reports", "logs"),
)
LOAD_TESTS = Outputs(
    "load test",
    "perf",
    "perf.yaml",
    "perf.json",
    "levels",
    "loadTests",
    "evalmesh perf list",
    ("perf_report.html", "requests.parquet"),
    ("logs",),
)


def client_config(values: Mapping[str, Any]) -> str:
    """A config as it travels with a spec, for everybody who may see that: JSON, empty where it would be too long.

    As in reports, addresses are without what may carry a key, and headers that are no references are masked.
    """
    from evalmesh.wire.runs.checks import MOST_CLIENT_CONFIG_BYTES  # noqa: PLC0415  # brings protobuf

    shown = plain(_public({name: value for name, value in values.items() if name not in _PLACE}))
    text = json.dumps(shown | {name: values[name] for name in ("api_key",) if name in values})
    return text if len(text) <= MOST_CLIENT_CONFIG_BYTES else ""


def _public(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        if name in {"headers", "extra_headers"}:
            from evalmesh.wire.runs.checks import KEY_REF  # noqa: PLC0415  # likewise

            return {one: text if KEY_REF.fullmatch(str(text)) else "***" for one, text in value.items()}
        return {one: _public(held, one) for one, held in value.items()}
    if isinstance(value, list):
        return [_public(held) for held in value]
    return public_url(value) if isinstance(value, str) and _ADDRESS.fullmatch(value) else value
