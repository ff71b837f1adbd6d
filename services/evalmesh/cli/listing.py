"""`list` of runs and of load tests: the newest ones, as a table or as JSON."""

import argparse
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.which import time_text
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.run import Run

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # a look at what is remembered needs no gRPC

T = TypeVar("T", bound=Run | LoadTest)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list."""

    heading: str
    cells: Sequence[str]
    keep: int
    """The higher, the sooner it is left out where a screen is narrow."""
    right: bool = False


def fitting_table(columns: Sequence[Column], width: int) -> Table:
    """As many columns as fit: a cell is never broken, so that ids can be copied and names searched for.

    The first one stays in any case, and columns without a cell are left out.
    """
    kept = [one for one in columns if one.keep == 0 or any(cell.strip() for cell in one.cells)]
    while len(kept) > 1 and sum(_width(one) + 1 for one in kept) > width:
        kept.remove(max(kept, key=lambda one: one.keep))
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    natural = sum(_width(one) + 2 for one in kept)
    if natural <= width:
        table.width = natural  # in a file or pipe that is wider than what rich takes for its width
    for one in kept:
        table.add_column(one.heading, no_wrap=True, justify="right" if one.right else "left")
    for row in zip(*(one.cells for one in kept), strict=True):
        # Text, never markup: names come from users and may hold square brackets.
        table.add_row(*map(Text, row))
    return table


def _width(column: Column) -> int:
    return max(cell_len(line) for cell in (column.heading, *column.cells) for line in cell.split("\n"))


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What a list shows of each."""

    heading: str
    """Of the column of ids."""
    fetch: "Callable[[AsyncClient, int], AsyncIterator[T]]"
    """All of them, newest first, in pages of a size."""
    columns: Mapping[str, Callable[[T], str]]
    """Heading to cell, between the state and the time of creation."""
    document: Callable[[T], dict[str, Any]]
    """What JSON says beside id, name, state, time of creation and error."""
    nothing: str
    """Said of an empty list."""
    state: Callable[[T], str] = lambda one: one.state.value.lower()
    """Of those that have ended, in words."""

    def show(self, args: argparse.Namespace, place: Place) -> int:
        """Prints the newest ones."""
        found = run_async(self._newest(args.limit + 1, place))
        more, found = len(found) > args.limit, found[: args.limit]
        if args.format == "json":
            print(json.dumps([self._as_json(one) for one in found], indent=2))
        elif found:
            console = make_console()
            console.print(self._table(found, place, console.table_width), crop=False)
            if more:
                print(f"and more; see them with --limit {10 * args.limit}")
        else:
            print(self.nothing)
        return exits.OK

    async def _newest(self, count: int, place: Place) -> list[T]:
        found: list[T] = []
        async with connect(place) as client:
            async for one in self.fetch(client, min(count, 100)):
                found.append(one)
                if len(found) >= count:
                    break
        return found

    def _table(self, found: list[T], place: Place, width: int) -> Table:
        states = [self.state(one) if one.state.terminal or place.goes_on(one) else "interrupted" for one in found]
        columns = [
            Column(self.heading, [one.id for one in found], 0),
            Column("State", states, 1),
            *(
                Column(heading, [cell(one) for one in found], keep)
                for keep, (heading, cell) in enumerate(self.columns.items(), 2)
            ),
            Column("Created", [time_text(one.create_time) for one in found], 99),
        ]
        return fitting_table(columns, width)

    def _as_json(self, one: T) -> dict[str, Any]:
        return {
            "id": one.id,
            "state": one.state.value,
            "display_name": one.spec.display_name,
            "create_time": datetime.fromtimestamp(one.create_time, UTC).isoformat(),
            "error": one.error,
            **self.document(one),
        }
