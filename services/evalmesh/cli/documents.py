"""What `run_task` and `run_perf` return: the documents of a run and a load test, as tables too.

They are mappings with what `report.json` and `perf.json` hold, so that both are read alike, here and from their files.
"""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalmesh.domain.errors import FailedPrecondition, InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PERCENTILES = ("p50", "p90", "p95", "p99")
_RATES = ("request_rate", "output_token_rate", "input_token_rate", "error_rate")
_LATENCIES = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")


class Document(dict[str, Any]):
    """A JSON document, and the folder with the files beside it."""

    def __init__(self, content: Mapping[str, Any], folder: Path) -> None:
        super().__init__(content)
        self.folder = folder
        """Outputs of the run or load test."""

    @property
    def id(self) -> str:
        """The run's or the load test's."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """The figures as flat rows: one per metric of a benchmark or subset, or one per level."""
        raise NotImplementedError

    def to_dataframe(self) -> "pd.DataFrame":
        """`rows` as a pandas table. Raises `FailedPrecondition` where pandas is not installed."""
        return load_pandas().DataFrame(self.rows())

    def _repr_html_(self) -> str:
        return html_table(str(self), self.rows())


class Report(Document):
    """An evaluation. `report["benchmarks"]` and the rest: docs/report-schema.md."""

    @property
    def id(self) -> str:
        """The run's."""
        return str(self["run"]["id"])

    def rows(self) -> list[dict[str, Any]]:
        """Per metric of each benchmark (`subset` is `None`) and of each of its subsets."""
        return [row for benchmark in self["benchmarks"] for row in _metrics(benchmark)]

    def score(self, benchmark: str = "", metric: str = "") -> float | None:
        """The value of a benchmark's metric; without names of the only benchmark, and of its primary metric.

        Raises `InvalidInput` where there is none of that name, or where several benchmarks make it ambiguous.
        """
        found = [one for one in self["benchmarks"] if benchmark in {"", one["name"]}]
        if len(found) != 1:
            names = ", ".join(one["name"] for one in self["benchmarks"])
            raise InvalidInput(f"benchmark: {benchmark!r} names none alone; there are: {names}.")
        wanted = metric or found[0]["primary_metric"]
        values = {one["name"]: one["value"] for one in found[0]["metrics"]}
        if wanted not in values:
            raise InvalidInput(f"metric: there is no {wanted!r}; there are: {', '.join(values)}.")
        value: float | None = values[wanted]
        return value

    def samples(self, benchmark: str = "") -> "pa.Table":
        """One row per request, with prompt, answer and score; of one benchmark, or of all (docs/report-schema.md).

        Arrow tables go everywhere: `report.samples().toload_pandas()`, `polars.from_arrow(report.samples())`.
        Raises `InvalidInput` where the folder has no results of that name.
        """
        import pyarrow as pa  # noqa: PLC0415  (takes a tenth of a second, which few need)
        import pyarrow.parquet as pq  # noqa: PLC0415

        files = sorted((self.folder / "results").glob(f"{benchmark or '*'}.parquet"))
        if not files:
            raise InvalidInput(f"benchmark: {str(self.folder / 'results')!r} has no results of {benchmark or 'any'!r}.")
        return pa.concat_tables([pq.read_table(path) for path in files], promote_options="default")

    def __rich__(self) -> Any:
        from evalmesh.cli.eval.table import render_table  # noqa: PLC0415  (imported for those who print it)

        return render_table(self, model=True)

    def __repr__(self) -> str:
        scores = (f"{one['name']} {_number(self.score(one['name']))}" for one in self["benchmarks"])
        return f"<Report {self.id}, {self['model']['label']}: {', '.join(scores)}>"

    __str__ = __repr__


class PerfReport(Document):
    """A load test. `perf["levels"]` and the rest: docs/perf-schema.md."""

    @property
    def id(self) -> str:
        """The load test's."""
        return str(self["load_test"]["id"])

    def rows(self) -> list[dict[str, Any]]:
        """Per level: counts, rates, and percentiles as `ttft_ms_p99`."""
        return [_level(one) for one in self["levels"]]

    def requests(self) -> "pa.Table":
        """One row per request (docs/perf-schema.md)."""
        import pyarrow.parquet as pq  # noqa: PLC0415  (as above)

        return pq.read_table(self.folder / "requests.parquet")

    def __repr__(self) -> str:
        return f"<PerfReport {self.id}: {', '.join(str(one['label']) for one in self['levels'])}>"

    __str__ = __repr__


def _metrics(benchmark: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parts: list[tuple[str | None, Any]] = [(None, benchmark["metrics"])]
    parts += [(one["name"], one["metrics"]) for one in benchmark["subsets"]]
    for subset, metrics in parts:
        for one in metrics:
            low, high = one["ci95"] or (None, None)
            row = {"benchmark": benchmark["name"], "subset": subset, "metric": one["name"], "value": one["value"]}
            counts = {name: one[name] for name in ("n_scored", "n_errored", "n_unscored")}
            yield {**row, "stderr": one["stderr"], "ci_low": low, "ci_high": high, **counts}


def _level(level: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: level[name] for name in ("label", "ok", "failed", *_RATES) if name in level}
    for name in _LATENCIES:
        figures = level.get(name) or {}
        row |= {f"{name}_{which}": figures[which] for which in _PERCENTILES if which in figures}
    return row


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def html_table(title: str, rows: list[dict[str, Any]]) -> str:
    """Every text escaped: names come from users and servers."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_number(row.get(name)))}</td>' for name in columns)}</tr>" for row in rows
    )
    caption = f"<caption style='text-align:left'>{escape(title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def load_pandas() -> Any:
    """Raises `FailedPrecondition` where pandas is not installed."""
    try:
        import pandas as pd  # noqa: PLC0415  (not among what evalmesh needs)
    except ImportError as error:
        raise FailedPrecondition("to_dataframe needs pandas: pip install pandas; rows() does without.") from error
    return pd
