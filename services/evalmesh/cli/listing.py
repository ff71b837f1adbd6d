"""`list` of runs and of load tests: the newest ones, as a table or as JSON."""

import argparse
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from rich.table import Table
from rich.text import Text

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.parser import PlaceOptions
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.domain.errors import NotFound
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.run import Run
from evalmesh.sdk import AsyncClient

T = TypeVar("T", bound=Run | LoadTest)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What a list shows of each."""

    heading: str
    """Of the column of ids."""
    fetch: Callable[[AsyncClient, int], AsyncIterator[T]]
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
        if place.server is None and args.work_dir != PlaceOptions.work_dir and not place.work_dir.is_dir():
            raise NotFound(f"work_dir: '{place.work_dir}' is no folder that exists.", {"field": "work_dir"})
        found = run_async(self._newest(args.limit, place))
        if args.format == "json":
            print(json.dumps([self._as_json(one) for one in found], indent=2))
        elif found:
            make_console().print(self._table(found, going_on=place.server is not None))
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

    def _table(self, found: list[T], *, going_on: bool) -> Table:
        table = Table(header_style="bold", pad_edge=False)
        for heading in (self.heading, "State", *self.columns, "Created"):
            # Ids and states are copied and searched for: they stay whole, however narrow the screen.
            table.add_column(heading, overflow="fold", no_wrap=heading in {self.heading, "State"})
        for one in found:
            state = self.state(one) if going_on or one.state.terminal else "interrupted"
            created = datetime.fromtimestamp(one.create_time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            # Text, never markup: names come from users and may hold square brackets.
            table.add_row(*map(Text, (one.id, state, *(cell(one) for cell in self.columns.values()), created)))
        return table

    def _as_json(self, one: T) -> dict[str, Any]:
        return {
            "id": one.id,
            "state": one.state.value,
            "display_name": one.spec.display_name,
            "create_time": datetime.fromtimestamp(one.create_time, UTC).isoformat(),
            "error": one.error,
            **self.document(one),
        }
