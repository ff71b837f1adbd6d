"""How many samples of a subset are taken: a count, or a fraction of its rows."""

from typing import Any

from evalmesh.domain.errors import InvalidInput

_MOST = 2**63 - 1
MOST_PREVIEWED = 100
"""Samples of a subset that are shown without a run."""
_WAY_OUT = (
    "use a count of samples per subset like 5, or a fraction below 1 like 0.1; leave it out for all. A count has no "
    "decimal point."
)


def check_limit(limit: Any, field: str) -> None:
    """Raises `InvalidInput` unless it is a whole number of at least 1, a fraction above 0 and below 1, or `None`."""
    if limit is None:
        return
    is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
    if not is_number or not 0 < limit <= _MOST or (isinstance(limit, float) and limit >= 1):
        shown = repr(limit) if len(repr(limit)) <= 40 else f"{repr(limit)[:37]}..."
        raise InvalidInput(f"{field}: {shown} is not allowed; {_WAY_OUT}", {"field": field, "value": str(limit)})


def parse_limit(value: Any, field: str) -> int | float | None:
    """A limit as people write it: `5`, `"5"`, `"0.1"`. Raises `InvalidInput` as `check_limit` does."""
    limit = value
    if isinstance(value, str):
        for convert in (int, float):
            try:
                limit = convert(value.strip())
                break
            except ValueError:
                continue
    check_limit(limit, field)
    checked: int | float | None = limit
    return checked
