"""`list` of runs and of load tests: the newest ones, as a table or as JSON."""

import argparse
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.tables import Column, Grid
from evalmesh.cli.which import time_text
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.run import Run

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # a look at what is remembered needs no gRPC

T = TypeVar("T", bound=Run | LoadTest)


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
            self._table(found, place).print_to(make_console())
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

    def _table(self, found: list[T], place: Place) -> Grid:
        states = [self.state(one) if one.state.terminal or place.goes_on(one) else "interrupted" for one in found]
        return Grid.of(
            [
                (Column(self.heading), [one.id for one in found]),
                (Column("State", spare=1), states),
                *(
                    (Column(heading, spare), [cell(one) for one in found])
                    for spare, (heading, cell) in enumerate(self.columns.items(), 2)
                ),
                (Column("Created", spare=99), [time_text(one.create_time) for one in found]),
            ]
        )

    def _as_json(self, one: T) -> dict[str, Any]:
        return {
            "id": one.id,
            "state": one.state.value,
            "display_name": one.spec.display_name,
            "create_time": datetime.fromtimestamp(one.create_time, UTC).isoformat(),
            "error": one.error,
            **self.document(one),
        }
