"""The columns of the tables of a load test: which figures, and how uncertain they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalmesh.cli.perf.words import milliseconds, per_second

Level = Mapping[str, Any]
Cell = Callable[[Level], str]
DETAILS: tuple[tuple[str, ...], ...] = (("p50", "p90", "p95", "p99"), ("p50", "p95", "p99"), ("p50", "p99"))
"""Percentiles of a latency, as many as there is room for."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of levels."""

    heading: str
    cell: Cell
    due: Cell | None = None
    """The same from the scheduled time, where there is such a thing."""
    spread: Cell | None = None
    """Half of the 95 % interval of what is shown, of the due time where there is one."""


def latency(title: str, name: str, statistics: Sequence[str], *, due: bool = False) -> Column:
    """Percentiles of a latency; `due`: there may be one from the scheduled time."""
    from_due = f"{name}_due_ms"
    heading = f"{title}\n{' / '.join(statistics)}"
    return Column(
        heading,
        _percentiles(f"{name}_ms", statistics),
        _percentiles(from_due, statistics) if due else None,
        lambda level: _halves(level, from_due if due and level.get(from_due) else f"{name}_ms", statistics),
    )


def _percentiles(name: str, statistics: Sequence[str]) -> Cell:
    def cell(level: Level) -> str:
        summary = level.get(name)
        if not summary or not summary["n"]:
            return "-"
        return " / ".join(milliseconds(summary[statistic]) for statistic in statistics)

    return cell


def _halves(level: Level, name: str, statistics: Sequence[str]) -> str:
    summary = level.get(name) or {"ci95": {}}
    found = [summary["ci95"].get(statistic) for statistic in statistics]
    if not any(found):
        return ""
    return "±" + " / ".join("-" if one is None else milliseconds((one[1] - one[0]) / 2) for one in found)


def rate(heading: str, name: str, *, known: bool = True) -> Column:
    """Something per second; `known`: documents hold its interval."""
    return Column(heading, _rate(name), spread=(lambda level: _half(level["rates_ci95"].get(name))) if known else None)


def _rate(name: str) -> Cell:
    def cell(level: Level) -> str:
        return "-" if level[name] is None else per_second(level[name]).removesuffix("/s")

    return cell


def _half(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"±{per_second((interval[1] - interval[0]) / 2).removesuffix('/s')}"


def _send_lag(level: Level) -> str:
    summary = level.get("send_lag_ms")
    return milliseconds(summary["p99"]) if summary and summary["n"] else "-"


def _goodput(level: Level) -> str:
    goodput = level["goodput"]
    if goodput is None or goodput["rate"] is None:
        return "-"
    share = f" ({goodput['share']:.1%})" if goodput["share"] is not None else ""
    return per_second(goodput["rate"]).removesuffix("/s") + share


def _mean(name: str) -> Cell:
    return lambda row: milliseconds(row[name]["mean"]) if row[name]["n"] else "-"


def mean_tokens(row: Level) -> str:
    """Output tokens of a request, on the mean."""
    mean = row["output_tokens"]["mean"]
    return f"{mean:,.0f}" if mean else "-"


LENGTH_COLUMNS = (
    Column("Output\ntokens", mean_tokens),
    Column("Out tok/s\nper request", _rate("output_token_rate_per_request")),
    Column("Prefill\ntok/s", _rate("prefill_token_rate")),
    Column("TTFT\nms", _mean("ttft_ms")),
    Column("TPOT\nms", _mean("tpot_ms")),
    Column("E2E\nms", _mean("e2e_ms")),
)
"""Means, since a speed benchmark sends two requests of each length."""


def is_generating(perf: Mapping[str, Any]) -> bool:
    """Whether answers are tokens."""
    return perf["target"]["api"] not in {"embeddings", "rerank"}


def rate_columns(perf: Mapping[str, Any]) -> list[Column]:
    """How much was done; embeddings have no output tokens, closed loops no schedule."""
    levels = perf["levels"]
    found = [rate("Req/s", "request_rate")]
    if any(level["offered_rate"] is not None for level in levels):
        found.insert(0, rate("Offered/s", "offered_rate", known=False))
    if is_generating(perf):
        found += [rate("Out tok/s", "output_token_rate"), Column("Out tok\nper req", mean_tokens)]
    else:
        found.append(rate("In tok/s", "input_token_rate"))
    if any(level["goodput"] for level in levels):
        interval: Cell = lambda level: _half((level["goodput"] or {"ci95": {}})["ci95"].get("rate"))  # noqa: E731
        found.append(Column("Goodput/s", _goodput, spread=interval))
    return found


def latency_columns(perf: Mapping[str, Any], statistics: Sequence[str]) -> list[Column]:
    """How long it took; only streams have a first token."""
    found = []
    if perf["target"]["stream"]:
        found.append(latency("TTFT ms", "ttft", statistics, due=True))
        found.append(latency("ITL ms", "itl", ("p50", "p99")))
        found.append(latency("TPOT ms", "tpot", ("p50",)))
    found.append(latency("E2E ms", "e2e", statistics, due=True))
    if any(level["offered_rate"] is not None for level in perf["levels"]):
        found.append(Column("Send lag\np99 ms", _send_lag))
    return found
