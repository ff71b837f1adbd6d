"""Which column of a user's file is which: by the name the user gave, by its own name, or by a usual other one."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
_IGNORED = re.compile(r"[\s_\-.:]+")


@dataclass(frozen=True, slots=True)
class Column:
    """What rows hold under one name."""

    name: str
    also: tuple[str, ...] = ()
    """Other names for the same, the likeliest first."""


QUESTION = Column("question", ("query", "prompt", "problem", "instruction", "input", "题目", "问题"))
ANSWER = Column(
    "answer",
    ("label", "target", "gold", "reference", "correct", "correct_answer", "answer_key", "solution", "response", "答案"),
)
CHOICES = Column("choices", ("options", "选项"))


def folded(name: str) -> str:
    """A name without what people write differently: capitals, blanks, underscores, full-width letters."""
    return _IGNORED.sub("", unicodedata.normalize("NFKC", name)).casefold()


@dataclass(slots=True)
class Headings:
    """Renames the columns of rows; rows with equal columns are looked at once."""

    known: Sequence[Column]
    named: Mapping[str, str]
    """What the benchmark calls a column, to what the file calls it: the user's words."""
    notes: dict[str, None] = field(default_factory=dict)
    """What was taken for what although nobody said so, in the order found."""
    _found: dict[tuple[str, ...], Mapping[str, str]] = field(default_factory=dict)
    """Column of the file to column of the benchmark, by all columns of the file."""

    def of(self, row: Row) -> Row:
        """The row under the benchmark's names; `ValueError` for a named column that it has not."""
        if not self.known and not self.named:
            return row
        own = tuple(map(str, row))
        if own not in self._found:
            self._found[own] = self._match(own)
        renamed = self._found[own]
        if not renamed:
            return row
        # A column that another one takes the name of is left out.
        taken = set(renamed.values())
        return {renamed.get(key, key): value for key, value in row.items() if key in renamed or key not in taken}

    def as_in_file(self, row: Row, reason: str) -> str:
        """What is wrong with a row, with its columns called as its user calls them."""
        own = tuple(map(str, row))
        renamed = self._found.get(own, {})
        for given, name in renamed.items():
            reason = reason.replace(f"column '{name}'", f"column '{given}'")
        return reason.replace(", ".join(renamed.get(key, key) for key in own), ", ".join(own))

    def _match(self, own: tuple[str, ...]) -> Mapping[str, str]:
        renamed: dict[str, str] = {}
        for name, given in self.named.items():
            if given not in own:
                there = ", ".join(own) or "none"
                raise ValueError(f"column '{given}', which columns.{name} names, is missing (there are: {there})")
            renamed[given] = name
        free = [key for key in own if key not in renamed and key not in {one.name for one in self.known}]
        by_fold = {folded(key): key for key in reversed(free)}
        for column in self.known:
            if column.name in own or column.name in renamed.values():
                continue
            for name in (column.name, *column.also):
                found = by_fold.pop(folded(name), None)
                if found is not None:
                    renamed[found] = column.name
                    if folded(found) != folded(column.name):
                        self.notes[f"column '{found}' is read as {column.name}"] = None
                    break
        return {key: name for key, name in renamed.items() if key != name}
