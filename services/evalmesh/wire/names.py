"""Resource names of the public API: `runs/{run}`, `runs/{run}/report`, `benchmarks/{benchmark}`."""

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import is_safe_name


def make_name(collection: str, name: str) -> str:
    """`runs`, `x` -> `runs/x`."""
    return f"{collection}/{name}"


def parse_name(collection: str, name: str) -> str:
    """`runs/x` -> `x`. Raises `InvalidInput` for another collection or an id that is not safe as a path segment."""
    prefix, _, rest = name.partition("/")
    if prefix != collection or not is_safe_name(rest):
        raise InvalidInput(
            f"name: {name[:200]!r} is no resource name of this kind; use `{collection}/{{id}}` with an id of "
            f"lower-case letters, digits, `-`, `_` and `.`.",
            {"field": "name"},
        )
    return rest


def report_name(run: str) -> str:
    """`x` -> `runs/x/report`."""
    return f"runs/{run}/report"


def parse_report_name(name: str) -> str:
    """`runs/x/report` -> `x`. Raises `InvalidInput`."""
    if not name.endswith("/report"):
        raise InvalidInput(
            f"name: {name[:200]!r} is no name of a report; use `runs/{{run}}/report`.",
            {"field": "name"},
        )
    return parse_name("runs", name.removesuffix("/report"))
