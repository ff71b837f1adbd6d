"""The report of a load test as one page: no network, no framework, readable without scripts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Template

from evalmesh.load.measure.best import in_order, why_not
from evalmesh.pages import common as pages
from evalmesh.pages.load_tests import charts, distributions, figures, said
from evalmesh.pages.load_tests.banners import banners
from evalmesh.pages.load_tests.lengths import lengths_section
from evalmesh.pages.load_tests.timelines import level_charts, server_charts

Level = Mapping[str, Any]

_STATISTICS = ("mean", "std", "min", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9", "max")
_DISTRIBUTIONS = (
    ("ttft_ms", "TTFT"),
    ("ttft_due_ms", "TTFT from schedule"),
    ("itl_ms", "ITL"),
    ("chunk_gap_ms", "chunk gap"),
    ("tpot_ms", "TPOT"),
    ("tpot_due_ms", "TPOT from schedule"),
    ("e2e_ms", "E2E"),
    ("e2e_due_ms", "E2E from schedule"),
    ("queue_ms", "queue"),
    ("send_lag_ms", "send lag"),
    ("connect_ms", "connect"),
    ("first_byte_ms", "first byte"),
)
_TOKENS = (
    ("input_tokens", "input"),
    ("output_tokens", "output"),
    ("cached_tokens", "cached"),
    ("reasoning_tokens", "reasoning"),
)
_COLUMNS = (("TTFT", "ttft"), ("ITL", "itl"), ("E2E", "e2e"))
"""Latencies of the table of levels; p50 and p99 of each."""
DEFINITIONS = (
    ("TTFT", "from the send to the first content or reasoning token; an empty event that opens the answer is none"),
    ("ITL", "time between two chunks, divided by the tokens the later one carried, counted once for each of them"),
    ("chunk gap", "time between two chunks, whatever they carried"),
    ("TPOT", "per request: from its first to its last token, divided by its tokens minus one"),
    ("E2E", "from the send to the last token"),
    ("from schedule", "from when the request was due: what waited in the client waited too (coordinated omission)"),
    ("TPOT from schedule", "from when the request was due to its last token, divided by its tokens"),
    ("queue", "from due to sent"),
    ("send lag", "the part of it that the cap on requests in flight does not explain: the client's own lateness"),
    ("window", "what the figures cover: without warm-up, start-up, and the emptying at the end"),
    ("requests/s", "successes per second of the window; offered: requests due per second"),
    ("goodput", "requests per second that met every bound of the objective; failed ones do not"),
    ("error rate", "failures over failures and successes; what was cancelled at the end is in neither"),
    ("limited by the client", "the load generator was the bottleneck: the figures say nothing about the server"),
    ("met, missed", "by the exact binomial test of how many requests lie beyond the limit, wrong at most once in 20"),
    ("undecided", "the test cannot tell yet: too few requests, or too near the limit"),
    ("95% interval", "from batch means: requests that wait in one queue are late together"),
)
"""In one line each; docs/load-metrics.md has the formulas."""
_OPEN_LEVELS = 2
"""With at most this many levels all of them are unfolded."""


def render_perf_html(perf: dict[str, Any]) -> str:
    """The page for a document of schema version 1 (see docs/perf-schema.md)."""
    perf = perf | {"levels": in_order(perf["levels"])} if perf["search"] else perf
    levels = perf["levels"]
    loads = figures.loads_of(levels)
    columns = [column for column in _COLUMNS if any(level[f"{column[1]}_ms"]["n"] for level in levels)]
    token_rate = _token_rate(levels)
    return _template().render(
        perf=perf,
        test=perf["load_test"],
        target=perf["target"],
        title=perf["load_test"]["display_name"] or perf["target"]["model"],
        banners=banners(perf),
        facts=_facts(perf),
        columns=columns,
        token_rate=token_rate,
        decimals=said.columns_decimals(levels, [name for _, name in columns], ["request_rate", token_rate[1]]),
        levels=levels,
        names=loads.names,
        labels=loads.labels,
        load_title=loads.title,
        lengths=lengths_section(perf, loads),
        sections=_chart_sections(perf, loads),
        objective_charts=figures.objective_charts(levels, loads) if loads.distinct > 1 else [],
        search_chart=figures.search_chart(levels, perf["search"]) if perf["search"] else None,
        details=[_details(level, name, len(levels)) for level, name in zip(levels, loads.names, strict=True)],
        error_rows=_error_rows(levels),
        config=_config(perf["spec"]),
        again=pages.again("perf", perf["spec"].get("client_config", ""), "load_test", perf["load_test"]["id"]),
        definitions=DEFINITIONS,
        assets=pages.assets("perf_report.css"),
    )


def warm_up() -> None:
    """Compiles the templates, which takes as long as rendering ten pages."""
    environment = _template().environment
    for name in ("perf_charts.html.j2", "perf_level.html.j2"):
        environment.get_template(name)


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "short": charts.short,
        "ms": said.ms,
        "in_ms": said.in_ms,
        "value": said.value,
        "fixed": said.fixed,
        "percent": said.percent,
        "size": said.size,
        "of": said.of,
    }
    sizes = {"left": charts.LEFT, "right": charts.WIDTH - charts.RIGHT, "top": charts.TOP, "bottom": charts.BOTTOM}
    return pages.environment(filters, {"plot": sizes}).get_template("perf_report.html.j2")


def _token_rate(levels: Sequence[Level]) -> tuple[str, str]:
    """The token rate of the table: what comes out; what goes in where nothing does."""
    if any(level["output_token_rate"] for level in levels):
        return "out", "output_token_rate"
    return "in", "input_token_rate"


def _facts(perf: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Label, value, and whether it is a warning."""
    levels, best, search = perf["levels"], perf["best"], perf["search"]
    failed = sum(sum(level["errors"].values()) for level in levels)
    lost = sum(level["lost"] for level in levels)
    facts = [
        ("Levels", f"{len(levels):,}", False),
        ("Requests", f"{sum(level['requests'] for level in levels):,}", False),
        ("Failed", f"{failed:,}", failed > 0),
    ]
    if lost:
        facts.append(("Lost", f"{lost:,}", True))
    if search:
        answer = search["answer"]
        facts.append(
            (
                f"Highest {search['variable']} within SLO",
                "none" if answer is None else said.value(answer),
                answer is None,
            )
        )
    for name, label in (("throughput", "Most {}"), ("goodput", "Most good requests/s")):
        found = best[name]
        if found:
            what = "tokens/s" if found["metric"] == "output_token_rate" else "requests/s"
            facts.append((label.format(what), said.value(found["value"]), False))
    return facts + _latency_facts(perf)


def _latency_facts(perf: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """What a user waits for at best: the first token where answers are streams, else the answer."""
    metric, name = ("ttft", "TTFT") if perf["target"]["stream"] else ("e2e", "E2E")
    sound = [level for level in perf["levels"] if why_not(level) is None]
    known = [level.get(f"{metric}_due_ms") or level[f"{metric}_ms"] for level in sound]
    known = [one for one in known if one["p50"] is not None]
    if not known:
        return []
    least = min(known, key=lambda one: one["p50"])
    many = "Lowest " if len(known) > 1 else ""
    return [
        (f"{many}{name} p50", said.in_ms(least["p50"]), False),
        (f"{name} p99 there", said.in_ms(least["p99"]), False),
    ]


def _chart_sections(perf: Mapping[str, Any], loads: figures.Loads) -> list[dict[str, Any]]:
    """Charts over all levels: anchor, heading, charts, and what to know about them."""
    levels = perf["levels"]
    found = []
    if loads.distinct > 1:
        legend = "Whiskers: 95% intervals."
        if any(level["e2e_due_ms"] for level in levels):
            legend += " Solid: from the scheduled time. Dashed: from the send."
        if perf["client_limited"]:
            legend += " Ringed: limited by the client."
        found.append(("latency", "Latency against load", figures.latency_charts(levels, loads), legend))
        text = f"Beside points: {loads.title}. The line joins the levels that no other level beats in both."
        found.append(("throughput", "Throughput", figures.throughput_charts(levels, loads), text))
    gaps = distributions.gap_chart(_shown_level(perf), "gaps") if levels else None
    curves = distributions.distribution_charts(levels, loads)
    text = "Share of requests (of gaps, for ITL and chunk gaps) that took at most this long, in the measured window."
    if len(levels) > distributions.MOST_CURVES:
        text += f" {distributions.MOST_CURVES} of {len(levels)} levels are drawn, spread over the loads."
    found.append(("distributions", "Distributions", [*curves, *([gaps] if gaps else [])], text))
    return [
        {"id": name, "title": title, "charts": drawn, "legend": legend} for name, title, drawn, legend in found if drawn
    ]


def _shown_level(perf: Mapping[str, Any]) -> Level:
    """The level that stands for the others: the one of the highest throughput."""
    best = perf["best"]["throughput"]
    found = (level for level in perf["levels"] if best and level["index"] == best["index"])
    return next(found, perf["levels"][0])


def _details(level: Level, name: str, number: int) -> dict[str, Any]:
    """Everything about one level."""
    return {
        "level": level,
        "name": name,
        "anchor": f"level-{level['index']}",
        "open": number <= _OPEN_LEVELS,
        "charts": level_charts(level, f"t{level['index']}"),
        "server_charts": server_charts(level, f"s{level['index']}"),
        "distributions": [(title, level[path]) for path, title in _DISTRIBUTIONS if level[path] and level[path]["n"]],
        "statistics": _STATISTICS,
        "tokens": [(title, level[path]) for path, title in _TOKENS if level[path]["n"]],
        "counts": _counts(level),
    }


def _counts(level: Level) -> list[tuple[str, int]]:
    """Where the planned requests went; only what there is any of."""
    rows = [("planned", level["planned"]), ("sent", level["sent"]), ("succeeded", level["ok"])]
    rows += [
        ("failed", sum(level["errors"].values()) - level["cancelled"]),
        ("cancelled at the end", level["cancelled"]),
        ("not sent", level["unsent"]),
        ("skipped turns", level["skipped"]),
        ("lost with a generator", level["lost"]),
        ("warm-up", level["warmup"]["requests"]),
    ]
    return [(name, count) for name, count in rows if count or name in {"planned", "sent", "succeeded"}]


def _error_rows(levels: Sequence[Level]) -> list[dict[str, Any]]:
    """Error classes over all levels, most frequent first, with a message where one was kept."""
    totals: Counter[str] = Counter()
    messages: dict[str, str] = {}
    for level in levels:
        totals.update(level["errors"])
        for example in level["error_examples"]:
            if example["message"]:
                messages.setdefault(example["class"], example["message"])
    return [
        {
            "class": name,
            "count": count,
            "message": messages.get(name, ""),
            "levels": [level["errors"].get(name, 0) for level in levels],
        }
        for name, count in totals.most_common()
    ]


_NOTHING: tuple[Any, ...] = (None, "", [], {})
_LAID_OUT = frozenset({"target", "prompts", "arrival", "client_config"})
"""What is shown in a way of its own."""


def _config(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The spec, with the two parts that say most laid out field by field."""
    rows = []
    for part, prefix in (("target", ""), ("prompts", "prompts: "), ("arrival", "arrival: ")):
        rows += [
            (prefix + name.replace("_", " "), said.setting(one))
            for name, one in spec[part].items()
            if one not in _NOTHING
        ]
    rest = {name: one for name, one in spec.items() if name not in _LAID_OUT and one not in _NOTHING}
    return [*rows, *((name.replace("_", " "), said.setting(one)) for name, one in rest.items())]
