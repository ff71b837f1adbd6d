"""Rows of a results file that fulfil a query, a page at a time.

What decides is read first, and whole rows only where something matches: a row group whose statistics rule a match out
is not touched at all.
"""

import heapq
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.result_query import PRIMARY_SCORE, ResultQuery
from evalmesh.results.row_text import row_text
from evalmesh.results.table import AMOUNT, SCORE_PREFIX
from evalmesh.wire.paging import PAGE_BYTES

GRADE = "grade"
_FULL_MARKS = 1 - 1e-9
_OUTCOME = "outcome"
"""A column that says whether there was an answer; results of before it was kept show it by the answer itself."""
_ANSWERED = frozenset({"answered", "answered_cut"})
SEARCHED = ("sample_id", "input", "completion", "reasoning", "answer", "reason", "explanation", "error_message")
"""And a target; and a prompt where there is no question."""
_ROWS_AT_ONCE = 16
"""Each may be long."""
_STATES = frozenset({"errored", "unscored", "not_run"})


class ResultsFile:
    """The results of one benchmark, open. Use it as a context manager."""

    def __init__(self, source: Path | BinaryIO) -> None:
        """Raises `InvalidInput` for what is no results file."""
        try:
            self._file = pq.ParquetFile(str(source) if isinstance(source, Path) else source)
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidInput(f"{str(source)!r} cannot be read as results: {error}") from error
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self.primary: str | None = next((name for name in self.columns if name.startswith(SCORE_PREFIX)), None)
        """The column of the primary score; `None` where the benchmark gives none."""
        told = None if self.primary is None else self._file.schema_arrow.field(self.primary).metadata
        self._is_amount = {name.encode(): kind.encode() for name, kind in AMOUNT.items()}.items() <= (
            told or {}
        ).items()
        ends = [0]
        for number in range(self._file.num_row_groups):
            ends.append(ends[-1] + self._file.metadata.row_group(number).num_rows)
        self._starts = ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def page(self, query: ResultQuery, after: int | None, size: int) -> tuple[list[str], int | None]:
        """Rows as JSON, and what to say as `after` for the next page; `None` at the end.

        A page has at most `size` rows and about `PAGE_BYTES`, and at least one row where there is one.
        """
        texts: list[str] = []
        size_bytes, last = 0, after
        for number, row in self.numbered(query, after, size + 1):
            text = row_text(row)
            size_bytes += len(text)
            if len(texts) == size or (texts and size_bytes > PAGE_BYTES):
                return texts, last
            texts.append(text)
            last = number
        return texts, None

    def rows(self, query: ResultQuery, most: int | None = None) -> Iterator[dict[str, Any]]:
        """At most so many rows, holding few of them."""
        for _, row in self.numbered(query, None, most):
            yield row

    def counts(self, query: ResultQuery) -> dict[str, int]:
        """How many rows there are of each grade, whatever grades the query wants."""
        self._check(query)
        found = Counter[str]()
        light = self._light(query) | self._of_grade()
        for group in self._groups(query, graded=False):
            table = self._file.read_row_group(group, columns=sorted(light), use_threads=False)
            grades = self._grades(table.to_pydict())
            found.update(grades[place] for place in _matches(table, query))
        return dict(found)

    def numbered(self, query: ResultQuery, after: int | None, most: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows with their place in the file, from behind the place `after` on. Raises `InvalidInput`."""
        self._check(query)
        wanted = self._wanted(query)
        if not query.order_by:
            yield from islice(self._as_planned(query, -1 if after is None else after, wanted), most)
            return
        places = self._ordered(query, after, most)
        for start in range(0, len(places), _ROWS_AT_ONCE):
            yield from self._scattered(places[start : start + _ROWS_AT_ONCE], wanted)

    def _as_planned(
        self, query: ResultQuery, after: int, wanted: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for group in self._groups(query, first=after + 1):
            yield from self._read(group, [place for place in self._places(group, query) if place > after], wanted)

    def extract(
        self, places: Sequence[int], wanted: Sequence[str], rows_at_once: int
    ) -> Iterator[dict[str, list[Any]]]:
        """Columns of the rows at these places (ascending), batch by batch: for many rows the cheaper form."""
        for group in range(self._file.num_row_groups):
            first, last = (bisect_left(places, self._starts[number]) for number in (group, group + 1))
            for _, columns in self._columns(group, places[first:last], wanted, rows_at_once):
                yield columns

    def column(self, *names: str) -> Iterator[pa.Table]:
        """These columns of all rows, one row group at a time."""
        for group in range(self._file.num_row_groups):
            yield self._file.read_row_group(group, columns=list(names), use_threads=False)

    @property
    def n_rows(self) -> int:
        """All there are."""
        return self._starts[-1]

    @property
    def n_bytes(self) -> int:
        """What they take in the file."""
        metadata = self._file.metadata
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        return sum(group.column(place).total_compressed_size for group in groups for place in range(group.num_columns))

    # Which rows

    def _check(self, query: ResultQuery) -> None:
        column, _ = query.order
        asked = {*query.columns, *([column] if query.order_by else [])} - {GRADE, PRIMARY_SCORE}
        if unknown := sorted(asked - set(self.columns)):
            field = "columns" if unknown[0] in query.columns else "order_by"
            raise InvalidInput(
                f"{field}: there is no column {unknown[0][:100]!r}; there are {GRADE}, {', '.join(self.columns)}.",
                {"field": field},
            )
        if query.order_by and pa.types.is_nested(self._file.schema_arrow.field(self._order_column(query)).type):
            raise InvalidInput(f"order_by: {column!r} holds lists, which have no order.", {"field": "order_by"})

    def _order_column(self, query: ResultQuery) -> str:
        column, _ = query.order
        return (self.primary or "state") if column == PRIMARY_SCORE else ("state" if column == GRADE else column)

    def _of_grade(self) -> set[str]:
        return {"state", "answer", self.primary or "state"} | ({_OUTCOME} & set(self.columns))

    def _light(self, query: ResultQuery) -> set[str]:
        """The columns that decide."""
        searched = {*SEARCHED, "prompt", "target"} if query.search else set()
        named = {name for name in ("state", "subset") if getattr(query, name)}
        by_id = {"sample_id", "repeat"} if query.sample_id else set()
        return {"state"} | searched | named | by_id | (self._of_grade() if query.grades else set())

    def _groups(self, query: ResultQuery, first: int = 0, *, graded: bool = True) -> Iterator[int]:
        """Row groups from the row `first` on whose statistics do not rule out that something matches."""
        for number in range(self._file.num_row_groups):
            if self._starts[number + 1] > first and self._may_hold(number, query, graded=graded):
                yield number

    def _may_hold(self, number: int, query: ResultQuery, *, graded: bool) -> bool:
        bounds = self._bounds(number)
        names = [name for name in (query.sample_id, query.sample_id.rpartition("#")[0]) if name]
        if names and not any(_within(bounds.get("sample_id"), name) for name in names):
            return False
        if not _within(bounds.get("subset"), query.subset) or not _within(bounds.get("state"), query.state):
            return False
        if not graded or not query.grades:
            return True
        low, high = bounds.get(self.primary or "") or (-math.inf, math.inf)
        scored = {"right": high >= _FULL_MARKS, "wrong": low < _FULL_MARKS, "no_answer": low < _FULL_MARKS}
        return any(
            _within(bounds.get("state"), grade if grade in _STATES else "scored") and scored.get(grade, True)
            for grade in query.grades
        )

    def _bounds(self, number: int) -> dict[str, tuple[Any, Any]]:
        """Least and largest value in a row group, of the columns of which the file tells."""
        group = self._file.metadata.row_group(number)
        wanted = {"sample_id", "subset", "state", self.primary}
        found = {}
        for place in range(group.num_columns):
            column = group.column(place)
            if column.path_in_schema in wanted:
                told = column.statistics
                if told is not None and told.has_min_max:
                    found[column.path_in_schema] = (told.min, told.max)
        return found

    def _places(self, group: int, query: ResultQuery) -> list[int]:
        """Where in the file the matches of a row group are."""
        start, end = self._starts[group], self._starts[group + 1]
        if not any((query.grades, query.state, query.subset, query.sample_id, query.search)):
            return list(range(start, end))
        table = self._file.read_row_group(group, columns=sorted(self._light(query)), use_threads=False)
        return [start + place for place in self._graded(table, query)]

    def _graded(self, table: pa.Table, query: ResultQuery) -> Sequence[int]:
        """The rows of a table that match, grades included."""
        found = _matches(table, query)
        if not query.grades:
            return found
        grades = self._grades(table.to_pydict())
        return [place for place in found if grades[place] in query.grades]

    def _grades(self, columns: Mapping[str, Sequence[Any]]) -> list[str]:
        """One for each row."""
        states: list[str] = list(columns["state"])
        if self.primary is None or self._is_amount:
            return states
        outcomes = columns.get(_OUTCOME, [None] * len(states))
        judged = zip(states, columns[self.primary], columns["answer"], outcomes, strict=True)
        return [_grade(*found) if state == "scored" else state for state, *found in judged]

    # In which order

    def _ordered(self, query: ResultQuery, after: int | None, most: int | None) -> list[int]:
        """The first places behind `after` in the order that is wanted; memory is that of so many, where it is said."""
        behind = None if after is None else self._key(query, after)
        keys = (key for key in self._keys(query) if behind is None or behind < key)
        return [key[-1] for key in (sorted(keys) if most is None else heapq.nsmallest(most, keys))]

    def _keys(self, query: ResultQuery) -> Iterator[tuple[Any, ...]]:
        column, (_, descending) = self._order_column(query), query.order
        for group in self._groups(query):
            table = self._file.read_row_group(group, columns=sorted({*self._light(query), column}), use_threads=False)
            values = table[column].to_pylist()
            for place in self._graded(table, query):
                yield _key(values[place], self._starts[group] + place, descending=descending)

    def _key(self, query: ResultQuery, place: int) -> tuple[Any, ...]:
        """What the row at a place is ordered by."""
        _, descending = query.order
        if place >= self._starts[-1]:
            raise InvalidInput("page_token: the results have been written again; start from the first page.")
        column = self._order_column(query)
        row = next(iter(self._scattered([place], [column])))[1]
        return _key(row[column], place, descending=descending)

    # What of them

    def _wanted(self, query: ResultQuery) -> list[str]:
        names = {self.primary if name == PRIMARY_SCORE and self.primary else name for name in query.columns}
        return [name for name in self.columns if name in names or not names] + (
            [GRADE] if GRADE in names or not names else []
        )

    def _scattered(self, places: Sequence[int], wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows in the order of their places."""
        by_group: dict[int, list[int]] = {}
        for place in sorted(places):
            group = next(n for n in range(self._file.num_row_groups) if self._starts[n + 1] > place)
            by_group.setdefault(group, []).append(place)
        found = {place: row for group, some in by_group.items() for place, row in self._read(group, some, wanted)}
        for place in places:
            yield place, found[place]

    def _read(self, group: int, places: Sequence[int], wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of one row group, few at a time."""
        for some, columns in self._columns(group, places, wanted, _ROWS_AT_ONCE):
            rows = zip(*columns.values(), strict=True)
            yield from ((place, dict(zip(wanted, row, strict=True))) for place, row in zip(some, rows, strict=True))

    def _columns(
        self, group: int, places: Sequence[int], wanted: Sequence[str], rows_at_once: int
    ) -> Iterator[tuple[Sequence[int], dict[str, list[Any]]]]:
        """The rows at these places of one row group, a batch at a time.

        They are picked here: Arrow's own ways to do it need 40 MiB before they begin.
        """
        if not places:
            return
        graded = GRADE in wanted
        names = [name for name in self.columns if name in wanted or (graded and name in self._of_grade())]
        at, first = self._starts[group], 0
        for batch in self._file.iter_batches(rows_at_once, row_groups=[group], columns=names, use_threads=False):
            last = bisect_left(places, at + batch.num_rows)
            if some := places[first:last]:
                part = batch.slice(some[0] - at, some[-1] - some[0] + 1).to_pydict()
                if graded:
                    part[GRADE] = self._grades(part)
                yield some, {name: [part[name][place - some[0]] for place in some] for name in wanted}
            first, at = last, at + batch.num_rows
            if first == len(places):
                return


class _Descending:
    """Orders the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "_Descending") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]  # it is only compared


def _key(value: Any, place: int, *, descending: bool) -> tuple[Any, ...]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return (True, 0, place)
    return (False, _Descending(value) if descending else value, place)


def _within(bounds: tuple[Any, Any] | None, text: str) -> bool:
    return not text or bounds is None or bounds[0] <= text <= bounds[1]


def _grade(score: float | None, answer: str | None, outcome: str | None) -> str:
    """Of a row that was scored."""
    if score is not None and score >= _FULL_MARKS:
        return "right"
    return "wrong" if (outcome in _ANSWERED if outcome else answer) else "no_answer"


def _matches(table: pa.Table, query: ResultQuery) -> Sequence[int]:
    """The rows of a table that match in all but their grades."""
    if not (query.state or query.subset or query.sample_id or query.search):
        return range(table.num_rows)
    from evalmesh.results.matching import matches  # noqa: PLC0415  (brings 40 MiB of Arrow)

    return matches(table, query)
