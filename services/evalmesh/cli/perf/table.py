"""The tables of a load test's document (docs/perf-schema.md) on a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from evalmesh.cli.perf.columns import (
    DETAILS,
    LENGTH_COLUMNS,
    Column,
    Level,
    is_generating,
    latency_columns,
    rate_columns,
)
from evalmesh.cli.perf.words import VERDICTS, milliseconds, per_second
from evalmesh.load.measure.best import in_order

_WIDEST_LABEL = 24
_ANY_WIDTH = 10_000
_MOST_SPREADS = 12
"""Levels up to which a row of half intervals stands below each; a search has more, and repeats have their own table."""
_MOST_LENGTH_ROWS = 24
_WRONG = 0.05


def failed_count(level: Level) -> int:
    """Requests that ended badly, were lost with their generator, or were given up when the level ended."""
    return int(sum(level["errors"].values()) + level["lost"])


def levels_tables(perf: Mapping[str, Any], console: Console) -> list[Table]:
    """One row per level, with a schedule two: from the scheduled time, and from the send; below them half intervals.

    What does not fit beside each other comes in two tables, rates and latencies, with as many percentiles as there is
    room for: figures are never cut.
    """
    rates = rate_columns(perf)
    for statistics in DETAILS[:-1]:
        whole = _levels_table(perf, [*rates, *latency_columns(perf, statistics)], counted=True)
        if _fits(console, whole):
            return [whole]
    for statistics in DETAILS:
        latencies = _levels_table(perf, latency_columns(perf, statistics), counted=False)
        if _fits(console, latencies):
            break
    return [_levels_table(perf, rates, counted=True), latencies]


def _fits(console: Console, table: Table) -> bool:
    # Measured as if there were room for anything, since a measure within a console is never wider than that.
    return Measurement.get(console, console.options.update(width=_ANY_WIDTH), table).maximum <= console.width


def _levels_table(perf: Mapping[str, Any], found: Sequence[Column], *, counted: bool) -> Table:
    levels = perf["levels"]
    table = plain_table()
    longest = max((len(level["label"]) for level in levels), default=0) + 2
    table.add_column("Level", overflow="fold", min_width=min(longest, _WIDEST_LABEL))
    for heading in ("OK", "Failed") if counted else ():
        table.add_column(heading, justify="right", no_wrap=True)
    for column in found:
        table.add_column(column.heading, justify="right", no_wrap=True)
    judged = counted and any(level["slo"] for level in levels)
    if judged:
        table.add_column("SLO", no_wrap=True)
    spreads = len(levels) <= _MOST_SPREADS and not perf["search"]
    for level in in_order(levels) if perf["search"] else levels:
        _add_level(table, level, found, counted=counted, judged=judged)
        if spreads:
            _add_below(table, "  ±95%", [column.spread(level) if column.spread else "" for column in found], counted)
    return table


def plain_table() -> Table:
    """An empty table in the style of all of them."""
    # As narrow as it can be, since many terminals have 80 columns: names fold, numbers never do.
    return Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)


def _add_level(table: Table, level: Level, found: Sequence[Column], *, counted: bool, judged: bool) -> None:
    name = level_name(level)
    failed = failed_count(level)
    style = "red" if level["client_limited"] else ""
    counts = [Text(f"{level['ok']:,}"), Text(f"{failed:,}", style="bold red" if failed else "dim")] if counted else []
    cells = [Text(f"{name}*" if level["client_limited"] else name, style=style or "bold"), *counts]
    due = level["offered_rate"] is not None
    # What a user waited begins when the request was due; that is the headline where there is a schedule.
    cells += [Text((column.due if due and column.due else column.cell)(level), style=style) for column in found]
    if judged:
        cells.append(_verdict(level["slo"]["decision"]) if level["slo"] else Text(""))
    table.add_row(*cells)
    if due and any(column.due for column in found):
        _add_below(table, "  from send", [column.cell(level) if column.due else "" for column in found], counted)


def _add_below(table: Table, name: str, cells: Sequence[str], counted: bool) -> None:  # noqa: FBT001
    """A second row of a level, where it has anything to say."""
    if any(cells):
        table.add_row(Text(name, style="dim"), *("", "") * counted, *(Text(cell, style="dim") for cell in cells))


def level_name(level: Level) -> str:
    """Its label, and which repeat it is."""
    return str(level["label"]) + (f" #{level['repeat'] + 1}" if level["repeat"] else "")


def _verdict(decision: str) -> Text:
    word, style = VERDICTS[decision]
    return Text(word, style=style)


def objective_table(perf: Mapping[str, Any], console: Console) -> Table | None:
    """Each term of the objective at each level; `None` without an objective. Intervals where there is room."""
    judged = [level for level in perf["levels"] if level["slo"]]
    if not judged:
        return None
    table = _objective_table(judged, intervals=True)
    return table if _fits(console, table) else _objective_table(judged, intervals=False)


def _objective_table(judged: Sequence[Level], *, intervals: bool) -> Table:
    table = plain_table()
    table.add_column("Level", overflow="fold")
    table.add_column("Objective", no_wrap=True)
    for heading in ("Value", *(("95% interval",) if intervals else ()), "Beyond limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    for level in judged:
        for position, term in enumerate(level["slo"]["terms"]):
            value = term["value"]
            cells = (
                "" if position else level_name(level),
                f"{term['metric']} {term['statistic']} {_limit(term)}".replace("  ", " "),
                "-" if value is None else _number(value, term["unit"]),
                *((_interval(term),) if intervals else ()),
                _beyond(term),
            )
            table.add_row(*map(Text, cells), _verdict(term["decision"]))
    return table


def _beyond(term: Mapping[str, Any]) -> str:
    # Documents of the same schema version may have been written before there was such a count.
    found = term.get("beyond")
    return "" if found is None else f"{found['count']:,} of {found['n']:,}"


def undecided_lines(perf: Mapping[str, Any]) -> list[str]:
    """Why terms are undecided, each reason once."""
    told: dict[str, None] = {}
    for level in perf["levels"]:
        for term in level["slo"]["terms"] if level["slo"] else ():
            if term["decision"] == "undecided":
                told[_why_open(level, term)] = None
    return list(told)


def _why_open(level: Level, term: Mapping[str, Any]) -> str:
    what = f"{term['metric']} {term['statistic']}".strip()
    found, drift = term.get("beyond"), level["window"].get("drift") or 0.0
    if term["value"] is None:
        return f"undecided: {what} was not measured."
    if drift > 0:
        return f"undecided: {what} is within its limit while latencies still grew; a longer level would tell."
    if found is None:
        return f"undecided: the limit lies in the interval of {what}, or there are too few requests for one."
    if not found["count"] and found["allowed"]:
        least = math.ceil(math.log(_WRONG) / math.log1p(-found["allowed"]))
        return f"undecided: none beyond the limit of {what} is proof from {least:,} independent requests on."
    return f"undecided: so many beyond the limit of {what} may be chance; more requests would tell."


def lengths_table(perf: Mapping[str, Any]) -> Table | None:
    """Means per prompt length; `None` without lengths, and where there would be more rows than a terminal shows."""
    # Documents of the same schema version may have been written before there were lengths.
    rows = [(level, row) for level in perf["levels"] for row in level.get("lengths", ())]
    if not 0 < len(rows) <= _MOST_LENGTH_ROWS:
        return None
    levels = len(perf["levels"]) > 1
    columns = [column for column in LENGTH_COLUMNS if any(column.cell(row) != "-" for _, row in rows)]
    table = plain_table()
    for heading in ("Level",) if levels else ():
        table.add_column(heading, overflow="fold")
    for heading in ("Prompt\ntokens", "OK", "Failed", *(column.heading for column in columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    before: Level | None = None
    for level, row in rows:
        label = [Text("" if level is before else level_name(level), style="bold")] if levels else []
        failed = row["requests"] - row["ok"]
        counts = Text(f"{row['ok']:,}"), Text(f"{failed:,}", style="bold red" if failed else "dim")
        cells = map(Text, (column.cell(row) for column in columns))
        table.add_row(*label, Text(f"{row['prepared_tokens']:,}", style="bold"), *counts, *cells)
        before = level
    return table


def memory_line(perf: Mapping[str, Any]) -> str:
    """How much memory the server's GPUs used at most, for the table of lengths; empty where nobody said so."""
    summaries = [level["server"]["summary"] for level in perf["levels"] if level.get("lengths") and level["server"]]
    known = [most for summary in summaries if (most := summary.get("gpu_memory_bytes_max")) is not None]
    return f"GPU memory of the server: at most {max(known) / 1e9:.1f} GB" if known else ""


def _interval(term: Mapping[str, Any]) -> str:
    if term["interval"] is None:
        return "-"
    low, high = (_number(end, term["unit"]) for end in term["interval"])
    return f"{low} to {high}"


def _number(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{milliseconds(value)} ms"
    return per_second(value) if unit in {"/s", "1/s"} else f"{value:.2%}"


def _limit(term: Mapping[str, Any]) -> str:
    return f"{'>=' if term['unit'] in {'/s', '1/s'} else '<='} {_number(term['limit'], term['unit'])}"


def repeats_table(perf: Mapping[str, Any], console: Console) -> Table | None:
    """Means over repeats with half their intervals, under the names of the table of levels; `None` without repeats."""
    groups = perf["repeats"]
    if not groups:
        return None
    due = any("ttft_due_ms.p50" in group["metrics"] or "e2e_due_ms.p50" in group["metrics"] for group in groups)
    tokens = ("Out tok/s", "output_token_rate") if is_generating(perf) else ("In tok/s", "input_token_rate")
    rates = [("Req/s", "request_rate"), tokens]
    titles = ("TTFT", "E2E") if perf["target"]["stream"] else ("E2E",)
    names = [(title, f"{title.lower()}{'_due' if due else ''}_ms") for title in titles]
    for statistics in (("p50", "p99"), ("p50",)):
        times = [(f"{title} ms\n{one}", f"{name}.{one}") for title, name in names for one in statistics]
        shown = [one for one in rates + times if any(one[1] in group["metrics"] for group in groups)]
        table = _repeats_table(groups, shown)
        if _fits(console, table):
            break
    return table


def _repeats_table(groups: Sequence[Mapping[str, Any]], shown: Sequence[tuple[str, str]]) -> Table:
    table = plain_table()
    table.title = Text("Means over repeats")
    table.title_justify = "left"
    table.add_column("Level", overflow="fold", min_width=min(_WIDEST_LABEL, max(len(one["label"]) for one in groups)))
    table.add_column("Runs", justify="right")
    for heading, _ in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        cells = [_over_repeats(group["metrics"].get(path)) for _, path in shown]
        table.add_row(group["label"], str(len(group["levels"])), *cells)
    return table


def repeats_legend(perf: Mapping[str, Any]) -> str:
    """What the second number of a cell is."""
    runs = sorted({len(group["levels"]) for group in perf["repeats"]})
    freedom = f"{' or '.join(str(many - 1) for many in runs)} degree{'' if runs == [2] else 's'} of freedom"
    few = " Two runs hardly know how much runs differ: use --repeats 5." if runs == [2] else ""
    return f"±: half of the 95% interval of the mean over runs (Student's t, {freedom}).{few}"


def _over_repeats(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "-"
    interval = found["ci95"]
    half = "" if interval is None else f" ±{milliseconds((interval[1] - interval[0]) / 2)}"
    return milliseconds(found["mean"]) + half


def search_table(search: Mapping[str, Any]) -> Table:
    """The evidence of a search, load by load."""
    table = plain_table()
    unit = "rate" if search["variable"] == "rate" else "parallel"
    for heading in (unit.capitalize(), "Seconds"):
        table.add_column(heading, justify="right")
    table.add_column("Verdict", no_wrap=True)
    table.add_column("", overflow="fold")
    for one in sorted(search["evidence"], key=lambda found: found["value"]):
        taken = {True: "met", False: "missed", None: "unknown"}[one["passed"]]
        decision = one.get("decision") or (taken if one["by"] == "interval" else "undecided")
        note = f"taken as {taken}: {one['note']}" if decision == "undecided" else str(one["note"])
        table.add_row(f"{one['value']:g}", f"{one['seconds']:.1f}", _verdict(decision), Text(note))
    return table
