"""What is asked of sample results: which rows, in which order, which columns of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

GRADES = ("right", "wrong", "no_answer", "errored", "unscored", "not_run")
"""What became of a request, each row exactly one of them. `right`: full marks, 1, in the benchmark's primary score.
`no_answer`: scored below that, and the extractor found nothing. `wrong`: every other score. The rest are states."""

PRIMARY_SCORE = "score"
"""To order by whatever the benchmark's primary score is called."""

MOST_SEARCH_CHARACTERS = 1000


class ResultFilters(TypedDict, total=False):
    """`ResultQuery` as callers write it: one text where several may stand is one."""

    grades: str | Sequence[str]
    state: str
    subset: str
    sample_id: str
    search: str
    order_by: str
    columns: str | Sequence[str]


@dataclass(frozen=True, slots=True)
class ResultQuery:
    """Rows that fulfil all of it; what is empty asks for nothing."""

    grades: tuple[str, ...] = ()
    """Any of these."""
    state: str = ""
    subset: str = ""
    sample_id: str = ""
    """A sample's id, or with `#repeat` one of its requests."""
    search: str = ""
    """In the question, the target, what came back, the answer and the reasons; case does not count."""
    order_by: str = ""
    """A column, optionally followed by ` desc`; empty: as planned. Rows without a value come last, equal ones as
    planned."""
    columns: tuple[str, ...] = ()
    """All, and `grade` beside them, when empty."""

    @classmethod
    def of(cls, **asked: Unpack[ResultFilters]) -> "ResultQuery":
        """From what a caller says."""
        grades, columns = asked.get("grades", ()), asked.get("columns", ())
        return cls(
            grades=(grades,) if isinstance(grades, str) else tuple(grades),
            state=asked.get("state", ""),
            subset=asked.get("subset", ""),
            sample_id=asked.get("sample_id", ""),
            search=asked.get("search", ""),
            order_by=asked.get("order_by", ""),
            columns=(columns,) if isinstance(columns, str) else tuple(columns),
        )

    def filters(self) -> ResultFilters:
        """Itself, as callers write it."""
        return {
            "grades": self.grades,
            "state": self.state,
            "subset": self.subset,
            "sample_id": self.sample_id,
            "search": self.search,
            "order_by": self.order_by,
            "columns": self.columns,
        }

    @property
    def order(self) -> tuple[str, bool]:
        """Column, and whether the largest comes first."""
        column, _, direction = self.order_by.partition(" ")
        return column, direction == "desc"
