"""The tables of a load test's document (docs/perf-schema.md) on a terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from evalmesh.cli.perf.live import errors_text
from evalmesh.cli.perf.words import milliseconds, per_second

Level = Mapping[str, Any]
_WIDEST_LABEL = 24
_ANY_WIDTH = 10_000
_VERDICTS = {"pass": "green", "fail": "bold red", "undecided": "yellow"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of levels."""

    heading: str
    cell: Callable[[Level], str]
    due: Callable[[Level], str] | None = None
    """The same from the scheduled time, where there is such a thing."""


def _pair(name: str) -> Callable[[Level], str]:
    def cell(level: Level) -> str:
        summary = level.get(name)
        if not summary or not summary["n"]:
            return "-"
        return f"{milliseconds(summary['p50'])} / {milliseconds(summary['p99'])}"

    return cell


def _rate(name: str) -> Callable[[Level], str]:
    def cell(level: Level) -> str:
        return "-" if level[name] is None else per_second(level[name]).removesuffix("/s")

    return cell


def _send_lag(level: Level) -> str:
    summary = level.get("send_lag_ms")
    return milliseconds(summary["p99"]) if summary and summary["n"] else "-"


def _goodput(level: Level) -> str:
    goodput = level["goodput"]
    if goodput is None or goodput["rate"] is None:
        return "-"
    share = f" ({goodput['share']:.1%})" if goodput["share"] is not None else ""
    return per_second(goodput["rate"]).removesuffix("/s") + share


def _mean(name: str) -> Callable[[Level], str]:
    return lambda row: milliseconds(row[name]["mean"]) if row[name]["n"] else "-"


def _mean_tokens(row: Level) -> str:
    mean = row["output_tokens"]["mean"]
    return f"{mean:,.0f}" if mean else "-"


_LENGTH_COLUMNS = (
    Column("Output\ntokens", _mean_tokens),
    Column("Out tok/s\nper request", _rate("output_token_rate_per_request")),
    Column("Prefill\ntok/s", _rate("prefill_token_rate")),
    Column("TTFT\nms", _mean("ttft_ms")),
    Column("TPOT\nms", _mean("tpot_ms")),
    Column("E2E\nms", _mean("e2e_ms")),
)
"""Means, since a speed benchmark sends two requests of each length."""
_MOST_LENGTH_ROWS = 24


def rate_columns(perf: Mapping[str, Any]) -> list[Column]:
    """How much was done; embeddings have no output tokens, closed loops no schedule."""
    levels = perf["levels"]
    found = [Column("Req/s", _rate("request_rate"))]
    if any(level["offered_rate"] is not None for level in levels):
        found.insert(0, Column("Offered/s", _rate("offered_rate")))
    generating = perf["target"]["api"] not in {"embeddings", "rerank"}
    name, heading = ("output_token_rate", "Out tok/s") if generating else ("input_token_rate", "In tok/s")
    found.append(Column(heading, _rate(name)))
    if any(level["goodput"] for level in levels):
        found.append(Column("Goodput/s", _goodput))
    return found


def latency_columns(perf: Mapping[str, Any]) -> list[Column]:
    """How long it took; only streams have a first token."""
    found = []
    if perf["target"]["stream"]:
        found.append(Column("TTFT ms\np50 / p99", _pair("ttft_ms"), _pair("ttft_due_ms")))
        found.append(Column("ITL ms\np50 / p99", _pair("itl_ms")))
    found.append(Column("E2E ms\np50 / p99", _pair("e2e_ms"), _pair("e2e_due_ms")))
    if any(level["offered_rate"] is not None for level in perf["levels"]):
        found.append(Column("Send lag\np99 ms", _send_lag))
    return found


def failed_count(level: Level) -> int:
    """Requests that ended badly, were lost with their generator, or were given up when the level ended."""
    return int(sum(level["errors"].values()) + level["lost"])


def levels_tables(perf: Mapping[str, Any], console: Console) -> list[Table]:
    """One row per level, with a schedule two: from the scheduled time, and from the send.

    What does not fit beside each other comes in two tables, rates and latencies: figures are never cut.
    """
    rates, latencies = rate_columns(perf), latency_columns(perf)
    whole = _levels_table(perf, [*rates, *latencies], counted=True)
    # Measured as if there were room for anything, since a measure within a console is never wider than that.
    if Measurement.get(console, console.options.update(width=_ANY_WIDTH), whole).maximum <= console.width:
        return [whole]
    return [_levels_table(perf, rates, counted=True), _levels_table(perf, latencies, counted=False)]


def _levels_table(perf: Mapping[str, Any], found: Sequence[Column], *, counted: bool) -> Table:
    table = plain_table()
    longest = max((len(level["label"]) for level in perf["levels"]), default=0) + 2
    table.add_column("Level", overflow="fold", min_width=min(longest, _WIDEST_LABEL))
    for heading in ("OK", "Failed") if counted else ():
        table.add_column(heading, justify="right", no_wrap=True)
    for column in found:
        table.add_column(column.heading, justify="right", no_wrap=True)
    judged = counted and any(level["slo"] for level in perf["levels"])
    if judged:
        table.add_column("SLO", no_wrap=True)
    for level in perf["levels"]:
        _add_level(table, level, found, counted=counted, judged=judged)
    return table


def plain_table() -> Table:
    """An empty table in the style of all of them."""
    # As narrow as it can be, since many terminals have 80 columns: names fold, numbers never do.
    return Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)


def _add_level(table: Table, level: Level, found: Sequence[Column], *, counted: bool, judged: bool) -> None:
    name = _name(level)
    failed = failed_count(level)
    style = "red" if level["client_limited"] else ""
    counts = [Text(f"{level['ok']:,}"), Text(f"{failed:,}", style="bold red" if failed else "dim")] if counted else []
    cells = [Text(f"{name}*" if level["client_limited"] else name, style=style or "bold"), *counts]
    due = level["offered_rate"] is not None
    # What a user waited begins when the request was due; that is the headline where there is a schedule.
    cells += [Text((column.due if due and column.due else column.cell)(level), style=style) for column in found]
    slo = level["slo"]
    if judged:
        cells.append(Text(slo["decision"] if slo else "", style=_VERDICTS.get(slo["decision"], "") if slo else ""))
    table.add_row(*cells)
    if due and any(column.due for column in found):
        sent = [Text(column.cell(level) if column.due else "", style="dim") for column in found]
        table.add_row(Text("  from send", style="dim"), *("" for _ in counts), *sent, *([""] if judged else []))


def _name(level: Level) -> str:
    return str(level["label"]) + (f" #{level['repeat'] + 1}" if level["repeat"] else "")


def objective_table(perf: Mapping[str, Any]) -> Table | None:
    """Each term of the objective at each level; `None` without an objective."""
    judged = [level for level in perf["levels"] if level["slo"]]
    if not judged:
        return None
    table = plain_table()
    table.add_column("Level", overflow="fold")
    table.add_column("Objective", no_wrap=True)
    for heading in ("Value", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    for level in judged:
        for position, term in enumerate(level["slo"]["terms"]):
            value, decision = term["value"], term["decision"]
            cells = (
                "" if position else level["label"],
                f"{term['metric']} {term['statistic']} {_limit(term)}".replace("  ", " "),
                "-" if value is None else _number(value, term["unit"]),
                _interval(term),
            )
            table.add_row(*map(Text, cells), Text(decision, style=_VERDICTS[decision]))
    return table


def lengths_table(perf: Mapping[str, Any]) -> Table | None:
    """Means per prompt length; `None` without lengths, and where there would be more rows than a terminal shows."""
    # Documents of the same schema version may have been written before there were lengths.
    rows = [(level, row) for level in perf["levels"] for row in level.get("lengths", ())]
    if not 0 < len(rows) <= _MOST_LENGTH_ROWS:
        return None
    levels = len(perf["levels"]) > 1
    columns = [column for column in _LENGTH_COLUMNS if any(column.cell(row) != "-" for _, row in rows)]
    table = plain_table()
    for heading in ("Level",) if levels else ():
        table.add_column(heading, overflow="fold")
    for heading in ("Prompt\ntokens", "OK", "Failed", *(column.heading for column in columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    before: Level | None = None
    for level, row in rows:
        label = [Text("" if level is before else _name(level), style="bold")] if levels else []
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
    return per_second(value) if unit == "/s" else f"{value:.2%}"


def _limit(term: Mapping[str, Any]) -> str:
    return f"{'>=' if term['unit'] == '/s' else '<='} {_number(term['limit'], term['unit'])}"


def repeats_table(perf: Mapping[str, Any]) -> Table | None:
    """Means over repeats with their intervals; `None` when nothing was repeated."""
    if not perf["repeats"]:
        return None
    table = plain_table()
    for heading in ("Level", "Runs"):
        table.add_column(heading)
    shown = ("request_rate", "output_token_rate", "ttft_ms.p50", "ttft_ms.p99", "e2e_ms.p50", "e2e_ms.p99")
    names = [name for name in shown if any(name in group["metrics"] for group in perf["repeats"])]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for group in perf["repeats"]:
        cells = [_over_repeats(group["metrics"].get(name)) for name in names]
        table.add_row(group["label"], str(len(group["levels"])), *cells)
    return table


def _over_repeats(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "-"
    interval = found["ci95"]
    half = "" if interval is None else f" ± {milliseconds((interval[1] - interval[0]) / 2)}"
    return milliseconds(found["mean"]) + half


def search_table(search: Mapping[str, Any]) -> Table:
    """The evidence of a search, probe by probe."""
    table = plain_table()
    for heading, justify in (
        ("Tried", "right"),
        ("Met", "left"),
        ("Decided by", "left"),
        ("Seconds", "right"),
        ("", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]  # both are alignments
    for one in search["evidence"]:
        passed = one["passed"]
        word, style = ("undecided", "yellow") if passed is None else ("yes", "green") if passed else ("no", "red")
        table.add_row(
            f"{one['value']:g}",
            Text(word, style=style),
            str(one["by"]),
            f"{one['seconds']:.1f}",
            Text(str(one["note"])),
        )
    return table


def search_line(search: Mapping[str, Any]) -> str:
    """The answer in words."""
    unit = " requests/s" if search["variable"] == "rate" else " in flight"
    bracket = [value for value in search["bracket"] or () if value is not None]
    if search["answer"] is None and _stopped_by_client(search):
        return f"search: no answer, since the load generator was the bottleneck. {search['stop_rule']}".rstrip()
    if search["answer"] is None:
        text = f"search: no {search['variable']} that was tried met the objective"
    else:
        least = "at least " if search["client_limited"] else ""
        text = f"search: the highest {search['variable']} that meets the objective is {least}{search['answer']:g}{unit}"
        if len(bracket) > 1 and not search["client_limited"]:
            text += f" ({bracket[1]:g} does not)"
    unfinished = "; it did not come to its end" if search["state"] == "unfinished" else ""
    return f"{text}; decided by {search['by']}{unfinished}. {search['stop_rule']}".rstrip()


def _stopped_by_client(search: Mapping[str, Any]) -> bool:
    """Whether nothing was decided because of the load generator itself."""
    evidence = search["evidence"]
    return bool(evidence) and all(one["by"] == "client" for one in evidence)


def best_line(perf: Mapping[str, Any]) -> str:
    """The best configurations in one line; empty when no level qualifies."""
    best = perf["best"] or {}
    words = {"throughput": "most throughput", "goodput": "most goodput", "latency": "lowest latency"}
    parts = [_best(words[name], best[name]) for name in words if best.get(name)]
    return f"best: {'; '.join(parts)}" if parts else ""


def _best(word: str, one: Mapping[str, Any]) -> str:
    metric, value = str(one["metric"]), float(one["value"])
    text = f"{milliseconds(value)} ms" if "_ms" in metric else per_second(value)
    return f"{word} at {one['label']} ({metric} {text})"


def failure_lines(level: Level) -> list[str]:
    """What failed at a level: how many of each class, and what the first one said."""
    errors = errors_text(level["errors"])
    lines = []
    if errors or level["lost"]:
        lost = f"{level['lost']:,} lost with their generator" if level["lost"] else ""
        asked = level["sent"] + level["lost"]
        said = ", ".join(part for part in (errors, lost) if part)
        lines.append(f"{level['label']}: {failed_count(level):,} of {asked:,} requests failed ({said})")
        lines += [f"  {one['class']}: {one['message'][:160]}" for one in level["error_examples"] if one["message"]][:3]
    if level["unsent"] and level["state"] != "done":
        lines.append(f"{level['label']}: {level['unsent']:,} requests were not sent, since the level ended before")
    return lines


def client_lines(level: Level) -> list[str]:
    """Why a level says nothing about the server, or less than it seems to."""
    lines = []
    if level["client_limited"]:
        why = "; ".join(reason.rstrip(".") for reason in level["client"]["reasons"])
        lines.append(
            f"* {level['label']}: THE LOAD GENERATOR WAS THE BOTTLENECK ({why}). These figures describe it, not the "
            f"server: use more --generators, or another machine."
        )
    for one in level["generators"]:
        if one["lost"]:
            why = f": {one['error']}" if one["error"] else ""
            where = f" at {one['host']}" if one["host"] else ""
            lines.append(f"{level['label']}: generator {one['seat']}{where} was lost{why}")
        elif one["error"]:
            lines.append(f"{level['label']}: ended early: {one['error']}")
    return lines
