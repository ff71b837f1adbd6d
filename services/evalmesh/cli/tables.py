"""Tables in which no name is ever folded or cut: where there is no room, whole columns are left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from evalmesh.cli.printable import one_line
from evalmesh.cli.which import time_text

_BETWEEN = 1
_ANY_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True)
class Column:
    """A column; of those that may be left out, the ones with the highest `spare` go first."""

    heading: str
    spare: int = 0
    """0: always there."""
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text from anywhere, never markup: names may hold square brackets."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    cells: Sequence[Cell]
    style: str = ""
    ends_section: bool = False


@dataclass(slots=True)
class Grid:
    """Columns and rows, to be drawn in any width or as Markdown."""

    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    title: str = ""

    @classmethod
    def of(cls, columns: Sequence[tuple[Column, Sequence[str | Sequence[str]]]]) -> "Grid":
        """From the cells of each column; one that is a list has so many lines."""
        grid = cls([column for column, _ in columns])
        for row in zip(*(cells for _, cells in columns), strict=True):
            for lines in zip_longest(*([one] if isinstance(one, str) else one for one in row), fillvalue=""):
                grid.add(*lines)
        return grid

    def add(self, *cells: str | Cell, style: str = "", ends_section: bool = False) -> None:
        """One more row."""
        held = (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
        self.rows.append(Row([Cell(one_line(cell.text), cell.style) for cell in held], style, ends_section))

    def kept(self, width: int) -> list[int]:
        """Places of the columns that are shown in a width: each that still fits, the most important ones first."""
        widths = [self._width(place) for place in range(len(self.columns))]
        blank = {place for place, column in enumerate(self.columns) if column.spare and self._value(place) == ""}
        needed = [place for place, column in enumerate(self.columns) if not column.spare]
        room = width - sum(widths[place] + _BETWEEN for place in needed) + _BETWEEN
        chosen = set(needed)
        for place in sorted(range(len(self.columns)), key=lambda one: self.columns[one].spare):
            if place not in chosen | blank and widths[place] + _BETWEEN <= room:
                chosen.add(place)
                room -= widths[place] + _BETWEEN
        return sorted(chosen)

    def _width(self, place: int) -> int:
        texts = [self.columns[place].heading, *(row.cells[place].text for row in self.rows)]
        return max(map(cell_len, texts))

    def print_to(self, console: Console) -> None:
        """Draws it, and says what had no room. A terminal too narrow for what must be there breaks lines itself."""
        kept = self._kept_on(console, console.width)
        console.print(self, crop=False)
        left_out = [self._in_words(place) for place in range(len(self.columns)) if place not in kept]
        if any(left_out):
            told = ", ".join(words for words in left_out if words)
            console.print(Text(f"no room for: {told}", style="dim"))

    def _value(self, place: int) -> str | None:
        """What all rows have there; `None` where they differ."""
        values = {row.cells[place].text for row in self.rows}
        return values.pop() if len(values) == 1 else None

    def _in_words(self, place: int) -> str:
        """The heading, with the value where all rows have the same; nothing where there is nothing to say."""
        value = self._value(place)
        return self.columns[place].heading + (f" ({value})" if value else "") if value != "" else ""

    def _kept_on(self, console: Console, width: int) -> list[int]:
        return self.kept(_ANY_WIDTH if getattr(console, "full_width", False) else width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = self._kept_on(console, options.max_width)
        needed = sum(self._width(place) + _BETWEEN for place in kept)
        if self.title:
            yield Text(self.title, style="dim", no_wrap=True, overflow="ellipsis")
        yield from console.render(self._drawn(kept), options.update(max_width=max(options.max_width, needed)))

    def _drawn(self, places: Sequence[int]) -> Table:
        headings = any(self.columns[place].heading for place in places)
        look = box.SIMPLE_HEAD if headings else None
        table = Table(box=look, show_header=headings, header_style="bold", show_edge=False, pad_edge=False, padding=0)
        if not headings:
            table.padding = (0, _BETWEEN, 0, 0)
        for place in places:
            column = self.columns[place]
            table.add_column(Text(column.heading), justify="right" if column.right else "left", no_wrap=True)
        for row in self.rows:
            cells = (Text(row.cells[place].text, style=row.cells[place].style) for place in places)
            table.add_row(*cells, style=row.style, end_section=row.ends_section)
        return table

    def markdown(self) -> str:
        """The same for documents and pull requests, with every column."""
        rows = [[column.heading for column in self.columns], *([cell.text for cell in row.cells] for row in self.rows)]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
        lines.insert(1, f"|{'|'.join('---:' if column.right else '---' for column in self.columns)}|")
        return "\n".join(lines)


def when(time: float | str) -> str:
    """Unix seconds or RFC 3339 as a time of this machine, with its zone."""
    return time_text(datetime.fromisoformat(time).timestamp() if isinstance(time, str) else time)
