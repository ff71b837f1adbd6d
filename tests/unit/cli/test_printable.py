"""What models, servers, files and records say is shown on a terminal and never obeyed."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.text import Text

import evalmesh.cli
from evalmesh.cli.__main__ import main
from evalmesh.cli.console import SafeConsole, make_console
from evalmesh.cli.printable import guarded, one_line, printable
from evalmesh.cli.tables import Column, Grid

CLEARS = "\x1b[2J\x1b]0;owned\x07"


@pytest.mark.parametrize("acting", [CLEARS, "a\x9b2Jb", "a\rb", "\x7f", "ab\u202eba", "\u2066x", "\ud800", "a\x00b"])
def test_what_acts_on_a_terminal_is_written_out(acting):
    shown = printable(f"say {acting}!")
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == f"say {acting}!"


def test_what_people_write_stays_as_it_is():
    for text in ("a\n\tb", "日本語 ёжик 👩‍👩‍👧 שלום", "[red]x[/]"):
        assert printable(text) == text
    assert printable("a\r\nb") == "a\nb"
    assert one_line(" a\r\n\tb ") == "a b"


def test_a_console_draws_its_own_colours_and_no_others():
    console = SafeConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=60)
    grid = Grid([Column("Name")])
    grid.add(CLEARS)
    console.print(Text(CLEARS, style="red"))
    console.say(CLEARS)
    grid.print_to(console)
    written = console.file.getvalue()
    assert "\x1b[31m" in written
    assert "\x1b[2J" not in written
    assert written.count("\\u001b[2J") == 3


def test_all_that_a_command_prints_is_printable(capsys, tmp_path):
    row = {"question": f"Say {CLEARS}", "A": "x", "B": "y", "C": "z", "D": "w", "answer": "A"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    args = json.dumps({"local_path": str(tmp_path / "q.jsonl")})
    assert main(["benchmarks", "preview", "general_mcq", "--dataset-args", args]) == 0
    assert main(["report", f"no{CLEARS}", "--work-dir", str(tmp_path)]) == 2
    assert main(["eval", "--nonsense\x1b[2J"]) == 2
    said = capsys.readouterr()
    assert "Say \\u001b[2J" in said.out
    assert "\x1b" not in said.out + said.err


def test_the_streams_are_the_same_afterwards_and_what_they_cannot_encode_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded():
        print("café\x1b", file=sys.stdout)
        make_console().print("naïve ━")
    assert sys.stdout is stream
    stream.flush()
    assert stream.buffer.getvalue().splitlines() == [b"caf\\xe9\\u001b", b"na\\xefve \\u2501"]


def test_no_module_of_the_command_line_has_a_console_of_its_own():
    own = [
        path.name
        for path in Path(evalmesh.cli.__file__).parent.rglob("*.py")
        if path.name != "console.py" and ("Console(" in path.read_text() or "__stdout__" in path.read_text())
    ]
    assert own == []
