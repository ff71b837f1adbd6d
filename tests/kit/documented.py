"""The commands that texts of the project name: in code blocks, in the middle of a sentence, in messages."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evalmesh.cli.flags import COMMANDS

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(?:\.venv/bin/)?(evalmesh(?: [a-z-][^`\n]*)?)`")
_LINE = re.compile(r"^(?:\$ )?(?:\w+=\S+ +)*(?:\.venv/bin/)?(evalmesh(?: .*)?)$")
# Outside of back quotes, only the name of a command makes one of what follows the project's name.
_IN_MESSAGE = re.compile(rf"(?:^|[\s:(])(evalmesh (?:{'|'.join(COMMANDS)})\b[^`\n]*)")


@dataclass(frozen=True, slots=True)
class Named:
    """A command as some text has it, without `evalmesh` itself."""

    where: str
    words: tuple[str, ...]


def pages() -> list[Path]:
    """The pages with commands for readers."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return sorted([*found, *(ROOT / "services").rglob("README.md")])


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, language and text of each code block; continued lines are joined."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        yield text.count("\n", 0, match.start()) + 2, match[1], re.sub(r"\s*\\\n\s*", " ", match[2])


def in_pages() -> Iterator[Named]:
    """Every command of a code block or between back quotes."""
    for page in pages():
        where = str(page.relative_to(ROOT))
        for line, _, text in blocks(page):
            for command in filter(None, map(_LINE.match, text.splitlines())):
                yield Named(f"{where}:{line}", _words(command[1]))
        for match in _INLINE.finditer(_BLOCK.sub("", page.read_text())):
            yield Named(where, _words(match[1]))


def in_messages() -> Iterator[Named]:
    """Every command that a string of the code names: hints, helps, advice. What is filled in later reads `X`."""
    for module in sorted((ROOT / "services/evalmesh").rglob("*.py")):
        tree = ast.parse(module.read_text())
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        documents = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if id(node) in inner or id(node) in documents:
                continue
            where = f"{module.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            for text in _texts(node):
                yield from (Named(where, _words(command)) for command in _commands(text))


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "X"
            for part in node.values
        )


def _commands(text: str) -> Iterator[str]:
    quoted = [match[1] for match in _INLINE.finditer(text)]
    yield from quoted
    for match in _IN_MESSAGE.finditer(_INLINE.sub("", text)):
        yield match[1]


def _words(command: str) -> tuple[str, ...]:
    """What follows `evalmesh`, up to a comment, or the end of the sentence that the command stands in."""
    command = re.split(r"\s+#|; |, |\. | \| | &|\)|\.$|,$", command.replace("...", ""))[0]
    try:
        return tuple(shlex.split(command)[1:])
    except ValueError:
        return tuple(command.split()[1:])
