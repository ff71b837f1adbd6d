"""Options that a project or a user sets once: `evalmesh.yaml` above the current folder, and one file at home.

Imports nothing heavy: without such a file, none of it is needed.
"""

import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmesh.domain.errors import InvalidInput

PROJECT_FILE = "evalmesh.yaml"
SECTIONS = ("all", "eval", "perf")
"""What a file holds: options of both commands, of evaluations, of load tests."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one file says for a command."""

    path: Path
    values: Mapping[str, Any]


def home_file() -> Path:
    """Where a user's own options are."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "evalmesh" / "config.yaml"


def project_file() -> Path | None:
    """The nearest file above the current folder, up to the root of its repository or the home folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
        if (folder / ".git").exists() or folder == Path.home():
            return None
    return None


def layers(command: str, known: Container[str]) -> list[Layer]:
    """What the files say for `eval` or `perf`, weakest first.

    Args:
        command: Whose section counts, beside `all`.
        known: The options there are: those of `all` that this command lacks are for the other one.

    Raises:
        InvalidInput: A file cannot be read, or has sections that there are not.
    """
    return [layer for path in _files() if (layer := Layer(path, _section(path, command, known))).values]


def merged(found: list[Layer]) -> dict[str, Any]:
    """The values of all layers, the strongest counting."""
    return {name: value for layer in found for name, value in layer.values.items()}


def told(command: str, known: Container[str]) -> list[str]:
    """Sentences that name the files whose options a command takes."""
    return [
        f"Options are taken from {layer.path}; `evalmesh config show` lists them." for layer in layers(command, known)
    ]


def _files() -> Iterator[Path]:
    home, project = home_file(), project_file()
    if home.is_file():
        yield home
    if project is not None:
        yield project


def _section(path: Path, command: str, known: Container[str]) -> dict[str, Any]:
    from evalmesh.cli.options import read_config_file  # noqa: PLC0415  (see above)

    content = read_config_file(str(path))
    for name, values in content.items():
        if name not in SECTIONS or not isinstance(values, Mapping):
            raise InvalidInput(
                f"{path}: {name!r} is no section; it holds {', '.join(SECTIONS)}, each a mapping of options, e.g. "
                f"'eval: {{api_url: http://127.0.0.1:8000/v1}}'.",
                {"field": "config"},
            )
    for_both = {name: value for name, value in content.get("all", {}).items() if name in known}
    values = {**for_both, **content.get(command, {})}
    if isinstance(values.get("work_dir"), str):
        # One folder, from wherever in the project a command is typed.
        values["work_dir"] = str(path.parent / Path(values["work_dir"]).expanduser())
    return values
