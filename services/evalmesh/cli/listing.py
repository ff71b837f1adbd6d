"""`list` of runs and of load tests: the newest ones, as a table or as JSON."""

import argparse
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.parser import PlaceOptions
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.tables import Column, Grid, when
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
            self._grid(found, going_on=place.server is not None).print_to(make_console())
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

    def _grid(self, found: list[T], *, going_on: bool) -> Grid:
        # Ids and states are copied and searched for. Of the rest the first columns matter most.
        others = [*self.columns, "Created"]
        optional = (Column(heading, spare=place) for place, heading in enumerate(others, start=1))
        grid = Grid([Column(self.heading), Column("State"), *optional])
        for one in found:
            state = self.state(one) if going_on or one.state.terminal else "interrupted"
            grid.add(one.id, state, *(cell(one) for cell in self.columns.values()), when(one.create_time))
        return grid

    def _as_json(self, one: T) -> dict[str, Any]:
        return {
            "id": one.id,
            "state": one.state.value,
            "display_name": one.spec.display_name,
            "create_time": datetime.fromtimestamp(one.create_time, UTC).isoformat(),
            "error": one.error,
            **self.document(one),
        }
