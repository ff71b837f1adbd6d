"""The report as one page: no network, no framework, readable without scripts."""

from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from evalmesh.domain.natural_order import by_name
from evalmesh.pages import common as pages
from evalmesh.pages.runs import charts, outcomes
from evalmesh.pages.runs.again import again

_BANNERS = {
    "FAILED": ("bad", "This run failed.", "The numbers cover what was finished before and are not a full evaluation."),
    "CANCELLED": ("warn", "This run was cancelled.", "The numbers cover only the samples finished before."),
    "CANCELLING": ("warn", "This run is being cancelled.", "The numbers cover only the samples finished before."),
}
_UNFINISHED = ("warn", "This run is not finished.", "The numbers cover only the samples finished so far.")
_ON_ERROR = {
    "exclude": "Requests without a score are left out of the means and counted beside them.",
    "zero": "Requests without a score count as 0 in the means.",
    "fail": "A run with a request without a score fails.",
}
_SAMPLES_GO_HERE = "<!-- samples -->"
_SPREADS = (
    ("tokens", "Answer length", "tokens"),
    ("characters", "Answer length", "characters"),
    ("latency_s", "Time to the whole answer", "s"),
)

Shown = Mapping[str, Mapping[str, Any]]
"""By benchmark: how many of its rows the page has (`shown`) of how many (`rows`), and histograms of `_SPREADS`."""


def render_html(report: Mapping[str, Any]) -> str:
    """The page for a report of schema version 1 (see docs/report-schema.md), without samples."""
    return "".join(page_parts(report, {}))


def page_parts(report: Mapping[str, Any], shown: Shown) -> tuple[str, str]:
    """What stands before the packed samples (`samples.pack`), and what behind them."""
    names = [benchmark["name"] for benchmark in report["benchmarks"]]
    page = _template().render(
        report=report,
        run=report["run"],
        model=report["model"],
        banners=_banners(report),
        totals=_totals(report),
        headline=[_headline(benchmark) for benchmark in report["benchmarks"]],
        sections=[
            _section(position, benchmark, shown.get(benchmark["name"], {}))
            for position, benchmark in enumerate(report["benchmarks"])
        ],
        shown={name: shown[name] for name in names if name in shown},
        names=names,
        on_error_text=_ON_ERROR.get(report["config"]["on_error"], ""),
        config=pages.config_rows(report["config"]),
        again=again(report["run"].get("client_config", ""), report["run"]["id"]),
        assets=pages.assets("samples.css", "samples.js"),
    )
    # Whatever a name holds, it cannot hold this: names are escaped.
    head, _, tail = page.partition(_SAMPLES_GO_HERE)
    return head, tail


def warm_up() -> None:
    """Compiles the templates, which takes as long as rendering a hundred pages."""
    template = _template()
    for name in ("charts.html.j2", "samples.html.j2"):
        template.environment.get_template(name)


@cache
def _template() -> Template:
    values = {"row_height": charts.ROW_HEIGHT, "samples_go_here": Markup(_SAMPLES_GO_HERE)}  # noqa: S704  (our own)
    return pages.environment({"number": charts.number}, values).get_template("report.html.j2")


def _banners(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the reader must know before any number: (level, headline, explanation)."""
    run, banners = report["run"], []
    if run["state"] != "SUCCEEDED":
        level, headline, text = _BANNERS.get(run["state"], _UNFINISHED)
        banners.append((level, headline, f"{text} {run['error']}".strip()))
    missing = report.get("benchmarks_not_reported") or []
    if missing:
        banners.append(("warn", "Benchmarks without any result:", ", ".join(missing)))
    totals = _totals(report)
    if totals["n_not_run"]:
        banners.append(("warn", f"{totals['n_not_run']:,} planned requests were not run.", "No number includes them."))
    if totals["n_errored"] + totals["n_unscored"]:
        lost = totals["n_errored"] + totals["n_unscored"]
        policy = _ON_ERROR.get(report["config"]["on_error"], "")
        banners.append(("warn", f"{lost:,} requests have no score.", policy))
    banners += outcomes.banners(report)
    if report["model"]["simulated"]:
        text = "The answers come from evalmesh's model simulator. The scores say nothing about a real model."
        banners.append(("info", "This model is simulated.", text))
    return banners


def _primary(benchmark: Mapping[str, Any]) -> Mapping[str, Any] | None:
    named = charts.named_metric(benchmark, benchmark["primary_metric"])
    return named or next(iter(benchmark["metrics"]), None)


def _totals(report: Mapping[str, Any]) -> dict[str, Any]:
    totals: dict[str, Any] = dict.fromkeys(
        ("n_scored", "n_errored", "n_unscored", "n_not_run", "n_reused", "input_tokens", "output_tokens"), 0
    )
    for benchmark in report["benchmarks"]:
        primary = _primary(benchmark)
        for name in ("n_scored", "n_errored", "n_unscored"):
            totals[name] += primary[name] if primary else 0
        for name in ("n_not_run", "n_reused"):
            totals[name] += benchmark[name]
        for name in ("input_tokens", "output_tokens"):
            totals[name] += int(benchmark["usage"].get(name) or 0)
    return totals


def _headline(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    primary = _primary(benchmark)
    ordered = [] if primary is None else [primary, *(m for m in benchmark["metrics"] if m is not primary)]
    rows = []
    for metric in ordered:
        scale = charts.scale_of([metric])
        rows.append({"metric": metric, "mark": charts.mark(metric, scale), "scale": scale})
    return {"benchmark": benchmark, "title": _title(benchmark), "rows": rows}


def _title(benchmark: Mapping[str, Any]) -> str:
    """What it is called; with data of one's own, what the file is called."""
    title = str(benchmark.get("title") or benchmark["name"])
    file = PurePath(str(benchmark.get("overrides", {}).get("local_path") or "")).name
    return title if file in title else f"{title}: {file}"


def _section(position: int, benchmark: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    primary = _primary(benchmark)
    drawn = []
    if primary is not None:
        drawn.append(charts.interval_chart("Metrics with 95% intervals", benchmark["metrics"]))
        for kind, heading in (("categories", "by category"), ("subsets", "by subset")):
            parts = benchmark[kind]
            if len(parts) > 1:
                plain = parts if kind == "subsets" else [dict(part, category=None) for part in parts]
                title = f"{primary['name']} {heading}"
                drawn.append(charts.bar_chart(title, plain, primary))
    scored = [(kind, part) for kind in ("categories", "subsets") for part in by_name(benchmark[kind])]
    return {
        "anchor": f"benchmark-{position}",
        "benchmark": benchmark,
        "title": _title(benchmark),
        "spreads": [charts.histogram(title, unit, shown[name]) for name, title, unit in _SPREADS if shown.get(name)],
        "primary": primary,
        "charts": drawn,
        "parts": scored if len(scored) > 1 else [],
        "usage": _usage_rows(benchmark["usage"]),
    }


def _usage_rows(usage: Mapping[str, float]) -> list[tuple[str, str]]:
    rows = []
    for name, value in usage.items():
        if name.endswith("_s"):
            rows.append((name.removesuffix("_s").replace("_", " "), f"{value:,.3f} s"))
        else:
            rows.append((name.replace("_", " "), f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"))
    return rows
