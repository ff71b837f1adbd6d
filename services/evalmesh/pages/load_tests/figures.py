"""Charts over all levels of a load test: latency, throughput and goodput against load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from evalmesh.load.measure.best import why_not
from evalmesh.pages.load_tests.charts import Chart, Rule, Series, Wish, chart, short

Level = Mapping[str, Any]

METRICS = {
    "ttft": "Time to first token (TTFT)",
    "e2e": "Time to last token (E2E)",
    "tpot": "Time per output token (TPOT)",
    "itl": "Time between tokens (ITL)",
}
"""Latencies that are drawn against load, with their names."""
LOOKS = ("s0", "s1", "s2", "s3", "s4", "s5")


@dataclass(frozen=True, slots=True)
class Loads:
    """What the levels differ in, and where each of them stands: the horizontal axis of most charts."""

    title: str
    values: Sequence[float]
    """Per level."""
    names: Sequence[str]
    """Per level, for people."""
    labels: Sequence[str]
    """Per level, as short as can be."""

    @property
    def distinct(self) -> int:
        """How many different loads there are."""
        return len(set(self.values))


def loads_of(levels: Sequence[Level]) -> Loads:
    """By rate where all have one, by requests in flight where all have that, else in order of execution."""
    names = [level_name(level) for level in levels]
    plain = all(not level["stages"] and level["arrival"] != "trace" for level in levels)
    if plain and levels and all(level["arrival"] != "closed" for level in levels):
        rates = [level["rate"] for level in levels]
        return Loads("requests due per second", rates, names, [f"{short(rate)}/s" for rate in rates])
    if plain and levels and all(level["arrival"] == "closed" for level in levels):
        parallel = [level["parallel"] for level in levels]
        return Loads("requests kept in flight", parallel, names, [short(number) for number in parallel])
    order = [level["index"] + 1 for level in levels]
    return Loads("level, in order of execution", order, names, [str(number) for number in order])


def level_name(level: Level) -> str:
    """Its label, and which of several alike it is."""
    what = "probe" if level["role"] == "probe" else "repeat"
    return f"{level['label']} ({what} {level['repeat'] + 1})" if level["repeat"] else str(level["label"])


def scale_ms(values: Sequence[float | None]) -> tuple[float, str]:
    """What to divide milliseconds by, and the unit then: seconds where they are many."""
    return (
        (1000.0, "s") if max((value for value in values if value is not None), default=0.0) >= 10_000 else (1.0, "ms")
    )


def latency_charts(levels: Sequence[Level], loads: Loads) -> list[Chart]:
    """One per metric: p50, p90 and p99 against load; in open loop p50 and p99, from schedule and from send."""
    found = []
    for metric, name in METRICS.items():
        wanted = _latency_series(levels, metric)
        values = [_at(level, path, stat) for path, stat, _, _, _ in wanted for level in levels]
        divisor, unit = scale_ms(values)
        series = [
            _against(
                levels,
                loads,
                (text, look),
                partial(_at, path=path, stat=stat),
                divisor,
                unit=unit,
                ends=partial(_ends, path=path, stat=stat),
                dashed=dashed,
                dots=not dashed,
            )
            for path, stat, text, look, dashed in wanted
        ]
        wish = Wish(
            f"load-{metric}", name, loads.title, f"{unit}", x_ticks=loads.values, rules=_limits(levels, metric, divisor)
        )
        found.append(chart(wish, series))
    return [one for one in found if one is not None]


def _latency_series(levels: Sequence[Level], metric: str) -> list[tuple[str, str, str, str, bool]]:
    if _has_due(levels, metric):
        return [
            (f"{metric}_{suffix}", stat, f"{stat} from {origin}", look, suffix == "ms")
            for suffix, origin in (("due_ms", "schedule"), ("ms", "send"))
            for stat, look in (("p50", "s0"), ("p99", "s1"))
        ]
    return [(f"{metric}_ms", stat, stat, look, False) for stat, look in (("p50", "s0"), ("p90", "s2"), ("p99", "s1"))]


def _has_due(levels: Sequence[Level], metric: str) -> bool:
    return any(level.get(f"{metric}_due_ms") for level in levels)


def throughput_charts(levels: Sequence[Level], loads: Loads) -> list[Chart]:
    """Requests and tokens per second against load, and throughput against what one user sees."""
    requests = [
        _rate(levels, loads, "request_rate", ("achieved", "s0")),
        _against(levels, loads, ("offered", "s5"), lambda level: level["offered_rate"], dashed=True, dots=False),
    ]
    # On axes of their own: prompts are often many times as long as answers.
    out, into = (
        [_rate(levels, loads, name, look)]
        for name, look in (("output_token_rate", ("output", "s0")), ("input_token_rate", ("input", "s2")))
    )
    found = [
        chart(_against_load("load-requests", "Requests per second", "requests/s", loads), requests),
        chart(_against_load("load-tokens", "Output tokens per second", "tokens/s", loads), out),
        chart(_against_load("load-tokens-in", "Input tokens per second", "tokens/s", loads), into),
        _against_latency(levels, loads),
        _against_speed(levels, loads),
    ]
    return [one for one in found if one is not None]


def _against_load(chart_id: str, title: str, unit: str, loads: Loads) -> Wish:
    return Wish(chart_id, title, loads.title, unit, y="linear", x_ticks=loads.values)


def _against_latency(levels: Sequence[Level], loads: Loads) -> Chart | None:
    metric = "ttft" if any(level["ttft_ms"]["n"] for level in levels) else "e2e"
    path, origin = (f"{metric}_due_ms", " from schedule") if _has_due(levels, metric) else (f"{metric}_ms", "")
    divisor, unit = scale_ms([_at(level, path, "p99") for level in levels])
    values = [None if (found := _at(level, path, "p99")) is None else found / divisor for level in levels]
    title = f"{METRICS[metric]}, p99{origin}, {unit}"
    return _front(levels, loads, values, Wish("front-latency", "Throughput against latency", title, ""), least=True)


def _against_speed(levels: Sequence[Level], loads: Loads) -> Chart | None:
    """As many tokens per second as one stream gets: the other axis that people size a server by."""
    values = [1000 / found if (found := _at(level, "tpot_ms", "p50")) else None for level in levels]
    wish = Wish("front-speed", "Throughput against speed of one stream", "tokens/s of one stream (1000 / TPOT p50)", "")
    return _front(levels, loads, values, wish, least=False)


def _front(
    levels: Sequence[Level], loads: Loads, values: Sequence[float | None], wish: Wish, *, least: bool
) -> Chart | None:
    """Throughput against a value that is to be small (`least`) or large; a line joins what is beaten in neither."""
    rate, unit = ("output_token_rate", "output tokens/s")
    if not any(level[rate] for level in levels):
        rate, unit = ("request_rate", "requests/s")
    known = [
        (at, level[rate], name, label, bool(level["client_limited"]), why_not(level))
        for at, level, name, label in zip(values, levels, loads.names, loads.labels, strict=True)
        if at is not None and level[rate] is not None
    ]
    if len(known) < 2:
        return None
    known.sort(key=lambda one: (one[0] if least else -one[0], -one[1]))
    front, most = [], -1.0
    for at, reached, *_, flaw in known:
        if reached > most and flaw is None:
            most = reached
            front.append((at, reached))
    points = Series(
        "levels",
        "s0 plain",
        [(at, reached) for at, reached, *_ in known],
        [
            f"{name}: {short(reached)} {unit} at {short(at)}" + (f"; never best: {flaw}" if flaw else "")
            for at, reached, name, *_, flaw in known
        ],
        labels=[label for _, _, _, label, *_ in known],
        joined=False,
        doubtful=[limited for *_, limited, _ in known],
    )
    wish = replace(wish, y_title=unit, y="linear", x_from_zero=False)
    return chart(wish, [*([Series("best trade-off", "s0", front)] if front else []), points])


def objective_charts(levels: Sequence[Level], loads: Loads) -> list[Chart]:
    """Goodput beside all successes, and how much of its limit each term of the objective used, against load."""
    goodput = [
        _against(
            levels,
            loads,
            ("goodput", "s2"),
            lambda level: (level["goodput"] or {}).get("rate"),
            ends=lambda level: (level["goodput"] or {"ci95": {}})["ci95"].get("rate"),
        ),
        _against(levels, loads, ("all successes", "s5"), lambda level: level["request_rate"], dashed=True, dots=False),
    ]
    terms = dict.fromkeys(_term_name(term) for level in levels if level["slo"] for term in level["slo"]["terms"])
    shares = [
        _against(levels, loads, (name, look), partial(_used_by, name=name), 0.01, unit="%")
        for name, look in zip(terms, LOOKS * len(terms), strict=False)
    ]
    wish = replace(
        _against_load("load-share", "Used of each limit", "%", loads), rules=[Rule(100.0, "limit")], y="auto"
    )
    found = []
    if any(level["goodput"] for level in levels):
        found.append(chart(_against_load("load-goodput", "Goodput", "requests/s", loads), goodput))
    return [one for one in (*found, chart(wish, shares)) if one is not None]


def _term_name(term: Mapping[str, Any]) -> str:
    return " ".join(part for part in (term["metric"], term["statistic"]) if part)


def _used_by(level: Level, name: str) -> float | None:
    terms = level["slo"]["terms"] if level["slo"] else ()
    return next((used(term) for term in terms if _term_name(term) == name), None)


def search_chart(levels: Sequence[Level], search: Mapping[str, Any]) -> Chart | None:
    """The value of the objective's hardest term per probe, with its limit."""
    probes = {level["index"]: level for level in levels if level["slo"]}
    points = [
        (step["value"], share, step["passed"])
        for step in search["evidence"]
        for index in step["levels"]
        if index in probes and (share := hardest(probes[index])) is not None
    ]
    points.sort(key=lambda point: point[0])
    series = [
        Series(
            name,
            look,
            [(value, 100 * share) for value, share, passed in points if passed is verdict],
            [
                f"{short(value)}: {100 * share:.3g}% of the limit, {name}"
                for value, share, passed in points
                if passed is verdict
            ],
            joined=False,
        )
        for name, look, verdict in (("met", "s0", True), ("missed", "s1", False), ("limited by the client", "s5", None))
    ]
    rules = [Rule(100.0, "objective")]
    if search["answer"] is not None:
        rules.append(Rule(search["answer"], "answer", vertical=True))
    title = "requests due per second" if search["variable"] == "rate" else "requests kept in flight"
    return chart(Wish("search", "Probes of the search", title, "% of the limit", rules=rules), series)


def hardest(level: Level) -> float | None:
    """How much of its limit the objective's worst term used: above 1 it is missed."""
    shares = [share for term in level["slo"]["terms"] if (share := used(term)) is not None]
    return max(shares, default=None)


def used(term: Mapping[str, Any]) -> float | None:
    """How much of its limit a term used; `None` where that is no number."""
    value, limit = term["value"], term["limit"]
    if value is None:
        return None
    lower_bound = term["metric"].endswith("_rate") and term["metric"] != "error_rate"
    over, under = (limit, value) if lower_bound else (value, limit)
    if under > 0:
        return float(over / under)
    # No error is allowed: none used nothing of it, and any is beyond every scale.
    return 0.0 if over <= 0 else None


def _rate(levels: Sequence[Level], loads: Loads, name: str, shown: tuple[str, str]) -> Series:
    return _against(levels, loads, shown, lambda level: level[name], ends=lambda level: level["rates_ci95"].get(name))


def _against(  # noqa: PLR0913  (a series is made of these)
    levels: Sequence[Level],
    loads: Loads,
    shown: tuple[str, str],
    value_of: Callable[[Level], float | None],
    divisor: float = 1.0,
    *,
    unit: str = "",
    ends: Callable[[Level], Sequence[float] | None] = lambda _: None,
    dashed: bool = False,
    dots: bool = True,
) -> Series:
    """A value of each level against its load; `shown` is the name and the look."""
    order = sorted(range(len(levels)), key=lambda index: loads.values[index])
    points, texts, intervals = [], [], []
    for index in order:
        value = value_of(levels[index])
        points.append((loads.values[index], None if value is None else value / divisor))
        text = "" if value is None else f"{loads.names[index]}: {shown[0]} {short(value / divisor)} {unit}".strip()
        texts.append(text + (", limited by the client" if levels[index]["client_limited"] else ""))
        interval = ends(levels[index])
        intervals.append((interval[0] / divisor, interval[1] / divisor) if interval else None)
    doubtful = [bool(levels[index]["client_limited"]) for index in order]
    if not dots:
        return Series(*shown, points, dashed=dashed)
    return Series(*shown, points, texts, intervals, dashed=dashed, doubtful=doubtful)


def _at(level: Level, path: str, stat: str) -> float | None:
    summary = level[path]
    return None if summary is None else summary[stat]


def _ends(level: Level, path: str, stat: str) -> Sequence[float] | None:
    summary = level[path]
    return None if summary is None else summary["ci95"].get(stat)


def _limits(levels: Sequence[Level], metric: str, divisor: float) -> list[Rule]:
    """The bounds of the objective on this metric."""
    terms = [term for level in levels if level["slo"] for term in level["slo"]["terms"] if term["metric"] == metric]
    bounds = dict.fromkeys((term["statistic"], term["limit"]) for term in terms)
    return [Rule(limit / divisor, f"objective for {statistic}") for statistic, limit in bounds]
