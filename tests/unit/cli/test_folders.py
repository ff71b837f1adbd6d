"""Work directories that are none, or that nobody lets this user into."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from evalmesh.cli.__main__ import main

LOOKS = [
    "runs list", "runs show", "runs watch", "runs cancel", "runs resume", "runs delete x", "runs prune --keep 1",
    "runs export", "report", "samples", "compare a b", "perf list", "perf show", "perf watch x", "perf compare a b",
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("EVALMESH_SERVER", "EVALMESH_WORK_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@contextmanager
def shut(folder):
    """Nobody may look into it, root included."""
    folder.chmod(0)
    me = os.geteuid()
    if me == 0:
        for above in folder.parents[:4]:
            above.chmod(above.stat().st_mode | 0o711)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(me)
        folder.chmod(0o700)


def told(command, folder, capsys):
    assert main([*command.split(" "), "--work-dir", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize("command", LOOKS)
def test_a_folder_that_is_not_there_is_named_and_not_made(command, place, capsys):
    assert told(command, "nope", capsys) == "evalmesh: work_dir: 'nope' is no folder that exists.\n"
    assert not Path("nope").exists()
    Path("file").touch()
    assert told(command, "file", capsys) == "evalmesh: work_dir: 'file' is a file; name a folder.\n"


@pytest.mark.parametrize("command", LOOKS)
def test_a_folder_that_cannot_be_read_is_wrong_input(command, place, capsys):
    (place / "locked").mkdir()
    with shut(place / "locked") as locked:
        said = told(command, locked, capsys)
        assert said.startswith(f"evalmesh: work_dir: '{locked}' cannot be read: permission denied")
        assert "permission denied" in told(command, locked / "inside", capsys)


@pytest.mark.parametrize("command", ["report", "samples", "compare"])
def test_so_is_an_outputs_folder(command, place, capsys):
    (place / "locked").mkdir()
    words = [*command.split(" "), "locked", *(["locked"] if command == "compare" else [])]
    assert main(words) == 2  # loads what is loaded late
    assert "permission denied" not in capsys.readouterr().err
    with shut(place / "locked"):
        assert main(words) == 2
    assert "'locked" in (said := capsys.readouterr().err)
    assert "permission denied" in said
