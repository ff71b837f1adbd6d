"""`perf.json` and `report.json` as flat figures with stable names: `level/ttft_ms/p99`, `gsm8k/accuracy`.

Sinks see a `Record` only, so that whatever is measured goes wherever figures are kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")
_DEPTH = 6
_LONGEST = 500
_NOT_FIGURES = frozenset(
    {"schema_version", "index", "number", "level_duration_s", "warmup", "window", "client", "slo", "timeline"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """One of several things that were measured in turn: a level of a load test."""

    step: int
    label: str
    """`parallel 32`, `rate 5`."""
    time_s: float | None
    """When it ended, in Unix seconds; `None`: it was never begun."""
    figures: Mapping[str, float]
    """By name without `level/`."""


@dataclass(frozen=True, slots=True)
class Record:
    """A document as sinks need it."""

    kind: Literal["load test", "evaluation"]
    id: str
    display_name: str
    model: str
    version: str
    """Of evalmesh."""
    steps: list[Step]
    summary: Mapping[str, float]
    """Figures of the whole."""
    parameters: Mapping[str, str | int | float | bool]
    """What was asked for."""
    facts: Mapping[str, str]
    """What else tells it from others: the API of a load test."""
    files: tuple[str, ...]
    """Names of the files that belong to it, where they are."""

    @property
    def command(self) -> str:
        """What makes such a document."""
        return "perf" if self.kind == "load test" else "eval"


def record_of(document: Mapping[str, Any]) -> Record:
    """Of a `perf.json` or a `report.json`."""
    return _load_test(document) if "levels" in document else _evaluation(document)


def _load_test(perf: Mapping[str, Any]) -> Record:
    test, target = perf["load_test"], perf["target"]
    return Record(
        kind="load test",
        id=test["id"],
        display_name=test["display_name"],
        model=target["model"],
        version=perf["evalmesh_version"],
        steps=levels_of(perf),
        summary=summary_of(perf),
        parameters=parameters_of(perf),
        facts={"api": target["api"]},
        files=("perf_report.html", "perf.json"),
    )


def _evaluation(report: Mapping[str, Any]) -> Record:
    run = report["run"]
    summary: dict[str, float] = {}
    for benchmark in report["benchmarks"]:
        parts = [("", benchmark["metrics"]), *((f"/{one['name']}", one["metrics"]) for one in benchmark["subsets"])]
        for part, metrics in parts:
            for metric in metrics:
                summary |= dict(_metric(f"{benchmark['name']}{part}/{metric['name']}", metric))
    about = {name: run.get(name) for name in ("id", "display_name", "state", "start_time", "labels")}
    wanted = {"evalmesh_version": report["evalmesh_version"], "run": about, "config": report["config"]}
    return Record(
        kind="evaluation",
        id=run["id"],
        display_name=run.get("display_name") or "",
        model=report["model"]["name"],
        version=report["evalmesh_version"],
        steps=[],
        summary=summary,
        parameters=dict(_flat(wanted, "", 0)),
        facts={},
        files=("report.html", "report.json"),
    )


def _metric(path: str, metric: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield from _number(path, metric["value"])
    for name in ("stderr", "n_scored", "n_errored", "n_unscored"):
        yield from _number(f"{path}/{name}", metric[name])
    if metric["ci95"]:
        for name, end in zip(("low", "high"), metric["ci95"], strict=True):
            yield from _number(f"{path}/ci95_{name}", end)


def levels_of(perf: Mapping[str, Any]) -> list[Step]:
    """In order of execution."""
    return [
        Step(
            step=level["index"],
            label=level["label"],
            time_s=unix_s(level["end_time"] or level["start_time"]),
            figures=dict(_figures(level)),
        )
        for level in perf["levels"]
    ]


def _figures(level: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in level.items():
        if name in _NOT_FIGURES:
            continue
        if isinstance(value, bool | int | float):
            yield name, float(value)
        elif isinstance(value, Mapping) and {"mean", "p50"} <= value.keys():
            for statistic in _STATISTICS:
                yield from _number(f"{name}/{statistic}", value.get(statistic))
    for error, count in level["errors"].items():
        yield f"errors/{error}", float(count)
    goodput, slo, server = level["goodput"] or {}, level["slo"] or {}, level["server"] or {}
    for name in ("rate", "share"):
        yield from _number(f"goodput/{name}", goodput.get(name))
    yield from _number("slo_met", slo.get("met"))
    for name, value in server.get("summary", {}).items():
        yield from _number(f"server/{name}", value)


def _number(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, bool | int | float):
        yield name, float(value)


def summary_of(perf: Mapping[str, Any]) -> dict[str, float]:
    """What the whole load test comes to: `best/throughput`, `search/answer`, ..."""
    summary = {f"best/{name}": float(best["value"]) for name, best in perf["best"].items() if best}
    search = perf["search"]
    if search and search["answer"] is not None:
        summary["search/answer"] = float(search["answer"])
    summary["client_limited"] = float(perf["client_limited"])
    summary["levels"] = float(len(perf["levels"]))
    return summary


def parameters_of(perf: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """What was asked for, flat: `spec/target/model`. What says nothing (null, empty) is left out."""
    test = perf["load_test"]
    about = {name: test[name] for name in ("id", "display_name", "state", "start_time", "labels")}
    wanted = {"evalmesh_version": perf["evalmesh_version"], "load_test": about, "spec": perf["spec"]}
    return dict(_flat(wanted, "", 0))


def _flat(value: Any, path: str, depth: int) -> Iterator[tuple[str, str | int | float | bool]]:
    if isinstance(value, Mapping) and depth < _DEPTH:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}/{key}" if path else str(key), depth + 1)
    elif isinstance(value, list | tuple) and depth < _DEPTH and any(isinstance(one, Mapping | list) for one in value):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}/{place}", depth + 1)
    elif isinstance(value, list | tuple | Mapping):
        if value:
            yield path, str(value)[:_LONGEST]
    elif isinstance(value, str):
        if value:
            yield path, value[:_LONGEST]
    elif value is not None:
        yield path, value


def unix_s(iso: str | None) -> float | None:
    """Unix seconds of a time in a document."""
    return None if iso is None else datetime.fromisoformat(iso).timestamp()


def dimensions(name: str) -> tuple[str, dict[str, str]]:
    """A figure's name for systems that have labels: the class of an error and the statistic are such."""
    head, _, tail = name.rpartition("/")
    if head == "errors":
        return "errors", {"class": tail}
    if head and tail in _STATISTICS:
        return head, {"statistic": tail}
    return name.replace("/", "_"), {}
