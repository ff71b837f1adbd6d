"""Documentation names things that exist. A page that lies is worse than none."""

import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from evalmesh.cli.eval.config import TaskConfig
from evalmesh.runtime.settings import RoomSettings

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs/ARCHITECTURE.md"
ROOMS_WITH_SETTINGS = ("gateway", "dataset_loader", "model_runner", "scorer", "load_generator", "report_aggregator")
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "services").rglob("*.md"))
    if path.name != "LICENSE.md"
)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

OTHERS = {"Nats-Msg-Id", "nats-server", "unscored", "errored"}
"""Names that are not ours to define."""


@cache
def source() -> str:
    """All our code and contracts, to look names up in."""
    files = [*(ROOT / "services").rglob("*.py"), *(ROOT / "proto").rglob("*.proto")]
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(files))


@cache
def words() -> frozenset[str]:
    return frozenset(re.findall(r"\w+", source()))


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def commands() -> frozenset[str]:
    done = subprocess.run(
        [sys.executable, "-m", "evalmesh.cli", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    return frozenset(re.findall(r"^ {4}([a-z]+)", done.stdout, re.MULTILINE))


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def is_known(name: str) -> bool:
    """Whether something of this name exists: a file, a key, a subject, a command, a target or a word of the code."""
    if name in OTHERS or (ROOT / name).exists():
        return True
    if name.startswith("make "):
        return name.split()[1] in make_targets()
    if name.startswith("evalmesh "):
        return name.split()[1] in commands()
    if "{" in name or "*" in name or "/" in name:
        # A `*` in a subject stands where the source has a name.
        pattern = re.escape(name).replace(r"\*", r"(?:\*|\{\w+\})")
        return (ROOT / name.rstrip("/")).exists() or re.search(pattern, source()) is not None
    return bool(re.findall(r"\w+", name)) and all(word in words() for word in re.findall(r"\w+", name))


def test_architecture_names_what_exists() -> None:
    names = CODE.findall(prose(ARCHITECTURE))
    assert len(names) > 60
    assert [name for name in names if not is_known(name)] == []


def test_architecture_fits_on_two_pages() -> None:
    assert len(ARCHITECTURE.read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("name", ["work.plan.{job}", "make coffee", "docs/nowhere.md", "EvalTask", "evalmesh bake"])
def test_what_does_not_exist_is_found(name: str) -> None:
    assert not is_known(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_variables_on_every_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE)
    assert [a or b for a, b in targets if (a or b) not in make_targets()] == []
    said = re.findall(r"(?:^|`|\$ |bin/)evalmesh ([a-z]+)", text, re.MULTILINE)
    assert [command for command in said if command not in commands()] == []
    variables = set(re.findall(r"\bEVALMESH_[A-Z0-9_]+[A-Z0-9]\b", text))
    assert sorted(name for name in variables if not variable_exists(name)) == []


def room_settings(room: str) -> type[RoomSettings]:
    module = importlib.import_module(f"evalmesh.{room}.settings")
    return next(
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, RoomSettings) and found.room == room
    )


def variable_exists(name: str) -> bool:
    if name in source() or name == "EVALMESH_SHARED_DATA":
        return True
    for room in ROOMS_WITH_SETTINGS:
        fields = room_settings(room).model_fields
        own = name.removeprefix(f"EVALMESH_{room.upper()}_").lower()
        if own in fields or name.removeprefix("EVALMESH_").lower() in fields:
            return True
    return bool(re.fullmatch(r"EVALMESH_S3_[A-Z_]+", name)) and name.removeprefix("EVALMESH_S3_").lower() in words()


@pytest.mark.parametrize("room", ROOMS_WITH_SETTINGS)
def test_a_room_documents_exactly_its_settings(room: str) -> None:
    page = (ROOT / "services/evalmesh" / room / "README.md").read_text(encoding="utf-8")
    prefix = f"EVALMESH_{room.upper()}_"
    own = {f"{prefix}{name.upper()}" for name in set(room_settings(room).model_fields) - set(RoomSettings.model_fields)}
    assert set(re.findall(rf"`({prefix}[A-Z0-9_]+)`", page)) == own


def test_shared_settings_are_documented_once() -> None:
    page = (ROOT / "services/evalmesh/runtime/README.md").read_text(encoding="utf-8")
    assert {f"EVALMESH_{name.upper()}" for name in RoomSettings.model_fields} <= set(CODE.findall(page))


def test_every_room_has_a_short_readme() -> None:
    folders = [path.parent for path in (ROOT / "services/evalmesh").glob("*/__init__.py")]
    rooms = [folder for folder in folders if folder.name not in {"v1", "internal"}]
    assert len(rooms) >= 15
    assert [folder.name for folder in rooms if not (folder / "README.md").is_file()] == []
    lengths = {folder.name: len((folder / "README.md").read_text(encoding="utf-8").splitlines()) for folder in rooms}
    del lengths["simulator"]  # its page is the manual of a tool that people use by itself
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    index = (ROOT / "services/README.md").read_text(encoding="utf-8")
    assert [folder.name for folder in rooms if f"evalmesh/{folder.name}/README.md" not in index] == []


def test_the_index_of_decisions_is_complete() -> None:
    folder = ROOT / "docs/adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    numbers = [int(name[:4]) for name in records]
    assert len(set(numbers)) == len(numbers) > 0
    for number, name in zip(numbers, records, strict=True):
        text = (folder / name).read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix(f"# {number:04}: ")
        assert name.startswith(f"{number:04}-"), name
        assert f"[{title}]({name})" in index, name
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## Context",
            "## Decision",
            "## Consequences",
        ], name
        assert len(text.splitlines()) < 60, name


def test_the_config_guide_has_every_key() -> None:
    guide = (ROOT / "docs/guides/config.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", guide, re.MULTILINE)
    rows = [name for cell in cells for name in re.findall(r"[a-z_]+", cell)]
    assert set(rows) == set(TaskConfig.model_fields)


def test_every_guide_can_be_reached_from_the_readme() -> None:
    guides = ROOT / "docs/guides"
    found, ahead = (
        set[str](),
        set(re.findall(r"\(docs/guides/([\w-]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8"))),
    )
    while ahead:
        found |= ahead
        texts = [(guides / name).read_text(encoding="utf-8") for name in ahead]
        ahead = {name for text in texts for name in re.findall(r"\(([\w-]+\.md)", text)} - found
    assert {path.name for path in guides.iterdir()} == found
