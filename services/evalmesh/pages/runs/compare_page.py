"""Pages of several runs: a comparison with a baseline, and reports side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Template

from evalmesh.domain.natural_order import by_name
from evalmesh.pages import common as pages

Document = Mapping[str, Any]

_PLOT_WIDTH = 220
_EDGE = 8
_INPUT_CHARS = 1_500
_TEXT_CHARS = 6_000
_SHOWN_SUBSETS = 400


@dataclass(frozen=True, slots=True)
class Forest:
    """The scale that all differences of a comparison share; zero is in the middle."""

    limit: float

    def x(self, value: float) -> float:
        """Position of a difference; what lies outside stops at the end."""
        share = min(1.0, max(-1.0, value / self.limit))
        return round(_PLOT_WIDTH / 2 + share * (_PLOT_WIDTH / 2 - _EDGE), 1)


def render_comparison(document: Document, flips: Sequence[Document]) -> str:
    """The page of a comparison (docs/compare-schema.md) and of some of its flips."""
    runs = [{**run, "letter": letter} for letter, run in zip(_letters(document), document["runs"], strict=True)]
    return _template("compare.html.j2").render(
        document=document,
        runs=runs,
        sections=[_section(comparison, runs, flips) for comparison in document["comparisons"]],
        matrix=_matrix(document),
        width=_PLOT_WIDTH,
        assets=pages.assets("compare.css"),
    )


def render_side_by_side(names: Sequence[str], reports: Sequence[Document], rows: Sequence[Any]) -> str:
    """The page of several reports.

    Args:
        names: What each run is called.
        reports: The runs, in that order.
        rows: Objects with `benchmark`, `subset`, `metric`, `cells` (a metric of each report, or none) and `best`.
    """
    return _template("side_by_side.html.j2").render(
        names=names, reports=reports, rows=rows, assets=pages.assets("compare.css")
    )


def _letters(document: Document) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(document["runs"])]


@cache
def _template(name: str) -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "number": _number,
        "signed": _signed,
        "p_value": _p_value,
        "cut": _cut,
        "value": _value,
    }
    return pages.environment(filters, {}).get_template(name)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 100 else f"{value:,.6g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}" if abs(value) < 100 else f"{value:+,.6g}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _value(value: Any) -> str:
    return "-" if value in (None, "") else value if isinstance(value, str) else pages.plain_json(value)


def _cut(text: str | None, most: int = _TEXT_CHARS) -> str:
    if text is None:
        return "none"
    return text if len(text) <= most else f"{text[:most]} [... {len(text):,} characters in all]"


def _section(comparison: Document, runs: Sequence[Document], flips: Sequence[Document]) -> dict[str, Any]:
    run = comparison["run"]
    forest = _forest(comparison)
    return {
        "anchor": f"run-{run}",
        "comparison": comparison,
        "b": runs[run],
        "forest": forest,
        "differs": _differs(comparison),
        "benchmarks": [
            {
                "benchmark": one,
                "subsets": by_name(one["subsets"])[:_SHOWN_SUBSETS] if len(one["subsets"]) > 1 else [],
                **_flips(one, [flip for flip in flips if flip["run"] == run and flip["benchmark"] == one["name"]]),
            }
            for one in comparison["benchmarks"]
        ],
    }


def _forest(comparison: Document) -> Forest:
    """Wide enough for what is in the table; intervals of small subsets may leave it."""
    metrics = [metric for one in comparison["benchmarks"] for metric in one["metrics"]]
    ends = [abs(end) for metric in metrics for end in (metric["difference"] or 0.0, *(metric["ci95"] or ()))]
    most = max(ends, default=0.0) or 1.0
    size = 10.0 ** len(str(int(most))) if most >= 1 else 1.0
    return Forest(next(size * step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if size * step >= most))


def _differs(comparison: Document) -> list[tuple[str, Document]]:
    found = [("", one) for one in comparison["differs"]]
    return found + [(one["name"], what) for one in comparison["benchmarks"] for what in one["differs"]]


def _flips(benchmark: Document, flips: Sequence[Document]) -> dict[str, Any]:
    primary = benchmark["metrics"][0]
    upward = primary["higher_is_better"]
    won = [one for one in flips if (one["b"]["value"] > one["a"]["value"]) == upward]
    lost = [one for one in flips if (one["b"]["value"] > one["a"]["value"]) != upward]
    return {
        "kinds": [
            {"name": "lost", "title": "Better in A", "flips": lost, "total": primary["losses"]},
            {"name": "won", "title": "Better in B", "flips": won, "total": primary["wins"]},
        ],
        "input_chars": _INPUT_CHARS,
    }


def _matrix(document: Document) -> list[list[Document | None]]:
    """Row against column."""
    count = len(document["runs"])
    cells: list[list[Document | None]] = [[None] * count for _ in range(count)]
    for one in document["matrix"]:
        a, b, mean = one["a"], one["b"], one["mean_difference"]
        cells[b][a] = {"mean": mean, "better": one["better"], "worse": one["worse"]}
        cells[a][b] = {"mean": None if mean is None else -mean, "better": one["worse"], "worse": one["better"]}
    return cells if document["matrix"] else []
