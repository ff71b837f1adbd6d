"""Rules of the house that no linter knows. CONTRIBUTING.md says why each is there."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MODULE_LINES = 400
MOST_FUNCTION_LINES = 50
GENERATED = ("services/evalmesh/v1/", "services/evalmesh/internal/")
# In pieces, so that this file does not find itself.
HOME_FOLDERS = re.compile(r"(?<![\w.}-])/(?:ro" + r"ot|ho" + r"me/\w+|Use" + r"rs/\w+|wo" + r"rk/(?:main|shared))\b")
MODE_FLAG = re.compile(
    r"\b(?:if|elif|while|and|or|not)\s+(?:self\.|settings\.)*_?(?:is_)?(?:embedded|standalone|in_cluster)\b"
)
HOLLOW = re.compile(r"^\s*assert\s+(?:True|1|not False)\s*(?:#.*)?$", re.MULTILINE)


@cache
def tracked() -> tuple[str, ...]:
    """Files that are, or are about to be, part of the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")
    return tuple(sorted({name for name in names if name and (ROOT / name).is_file()}))


def python_files(*folders: str) -> Iterator[tuple[str, str]]:
    for name in tracked():
        if name.endswith(".py") and name.startswith(folders) and not name.startswith(GENERATED):
            yield name, (ROOT / name).read_text(encoding="utf-8")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(name: str, text: str) -> list[str]:
    """Functions above the limit, docstring included, unless their `def` line says `# long: <why>`."""
    lines = text.splitlines()
    found = []
    for node in functions(ast.parse(text)):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MOST_FUNCTION_LINES and not re.search(r"# long: \w+", lines[node.lineno - 1]):
            found.append(f"{name}:{node.lineno} {node.name} has {length} lines")
    return found


def hollow_tests(name: str, text: str) -> list[str]:
    """Tests that cannot fail: they assert a constant, or neither assert nor call anything."""
    found = [f"{name}: {match.group().strip()}" for match in HOLLOW.finditer(text)]
    found += [
        f"{name}:{node.lineno} {node.name} does nothing"
        for node in functions(ast.parse(text))
        if node.name.startswith("test_")
        and not any(_does_something(inner) for part in node.body for inner in ast.walk(part))
    ]
    return found


def _does_something(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert | ast.Call | ast.With | ast.AsyncWith | ast.Await | ast.Raise)


def test_no_module_is_too_long() -> None:
    found = {name: len(text.splitlines()) for name, text in python_files("services/")}
    assert len(found) > 50
    assert not {name: lines for name, lines in found.items() if lines > MOST_MODULE_LINES}


def test_no_function_is_too_long() -> None:
    found = [line for name, text in python_files("services/", "tests/") for line in long_functions(name, text)]
    assert not found


def test_services_do_not_know_where_they_run() -> None:
    """One machine and many differ by URLs; who needs to ask has been wired wrongly."""
    found = [
        f"{name}: {match.group()}"
        for name, text in python_files("services/")
        if not name.startswith("services/evalmesh/local/")
        for match in MODE_FLAG.finditer(text)
    ]
    assert not found


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = []
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match.group()}" for match in HOME_FOLDERS.finditer(text)]
    assert not found


def test_every_test_can_fail() -> None:
    assert not [line for name, text in python_files("tests/") for line in hollow_tests(name, text)]


def test_test_modules_have_names_of_their_own() -> None:
    """Without packages, two modules of one name hide each other."""
    names = [Path(name).name for name, _ in python_files("tests/") if Path(name).name.startswith("test_")]
    assert len(names) > 10
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("room", ["domain", "scoring", "benchmarks", "load"])
def test_the_core_reads_no_clock_and_no_environment(room: str) -> None:
    """Import rules cannot tell these apart: `time` and `os` are also good for pure things."""
    impure = re.compile(
        r"\b(?:time\.(?:time|monotonic|perf_counter)\(|datetime\.now\(|os\.(?:environ|getenv)|random\.random\()"
    )
    found = [
        f"{name}: {match.group()}"
        for name, text in python_files(f"services/evalmesh/{room}/")
        for match in impure.finditer(text)
    ]
    assert not found


class TestTheRulesThemselves:
    def test_a_long_function_is_found_and_a_reason_excuses_it(self) -> None:
        body = "    x = 1\n" * MOST_FUNCTION_LINES
        assert long_functions("m.py", f"def f():\n{body}") == ["m.py:1 f has 51 lines"]
        assert long_functions("m.py", f"def f():  # long: a table\n{body}") == []

    def test_a_hollow_test_is_found(self) -> None:
        assert hollow_tests("t.py", "def test_x():\n    pass\n") == ["t.py:1 test_x does nothing"]
        assert hollow_tests("t.py", "def test_x():\n    assert f()\n") == []

    def test_a_home_folder_is_found(self) -> None:
        assert HOME_FOLDERS.search("open('/ho" + "me/ann/data')")
        assert not HOME_FOLDERS.search("https://host/ro" + "ot/x and ./ro" + "ot")

    def test_a_mode_flag_is_found(self) -> None:
        assert MODE_FLAG.search("if self._embedded:")
        assert not MODE_FLAG.search("an embedded server")
