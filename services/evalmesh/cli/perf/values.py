"""Values of a load test as people type them: distributions of lengths, stages, SLA criteria, `@file`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.free_values import parse_json
from evalmesh.domain.load_test import Lengths, SloTerm, Stage

_STAGE = re.compile(r"^(?P<time>[\d.]+)(?P<unit>ms|s|m|h)?:(?P<start>[\d.]+)(?:-(?P<end>[\d.]+))?$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_MOST_TOKENS = 1 << 20
_CRITERION = re.compile(r"^(?P<op><=|>=|<|>|max|min)\s*(?P<number>[\d.eE+-]*)\s*(?P<unit>ms|s)?$")
_OPERATORS = {"\u2264": "<=", "\u2265": ">=", "\u2267": ">=", "\u2009": ""}

SLA_METRICS: Mapping[str, tuple[str, str, float]] = {
    # EvalScope's name -> metric, statistic, milliseconds of a bare number (0: no time)
    "avg_latency": ("e2e", "mean", 1000.0),
    "p99_latency": ("e2e", "p99", 1000.0),
    "avg_ttft": ("ttft", "mean", 1.0),
    "p50_ttft": ("ttft", "p50", 1.0),
    "p90_ttft": ("ttft", "p90", 1.0),
    "p99_ttft": ("ttft", "p99", 1.0),
    "avg_tpot": ("tpot", "mean", 1.0),
    "p50_tpot": ("tpot", "p50", 1.0),
    "p90_tpot": ("tpot", "p90", 1.0),
    "p99_tpot": ("tpot", "p99", 1.0),
    "rps": ("request_rate", "", 0.0),
    "tps": ("output_token_rate", "", 0.0),
}


def wrong(field: str, value: Any, way_out: str) -> InvalidInput:
    """The error for a value that is not allowed."""
    return InvalidInput(f"{field}: {repr(value)[:80]} is not allowed; {way_out}", {"field": field})


def parse_share(text: str, field: str) -> float:
    """`3%` or `0.03`. Raises `InvalidInput`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise wrong(field, text, "write a share below 1, like 3% or 0.03.")
    return share


def parse_lengths(text: str, field: str) -> Lengths:
    """`512`, `fixed:512`, `uniform:LOW:HIGH`, `normal:MEAN:SD`, `lognormal:MEDIAN:SIGMA`, `trace`.

    The two with a long tail may end in `:LOW:HIGH`. Raises `InvalidInput`.
    """
    way_out = "write 512, uniform:100:200, normal:512:64, lognormal:512:0.5 (both also with :LOW:HIGH), or trace."
    kind, *parts = text.strip().split(":")
    if kind.isdecimal() and not parts:
        kind, parts = "fixed", [kind]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise wrong(field, text, way_out) from None
    allowed = {"fixed": (1,), "uniform": (2,), "normal": (2, 4), "lognormal": (2, 4), "trace": (0,)}
    if len(numbers) not in allowed.get(kind, ()) or any(number < 0 for number in numbers):
        raise wrong(field, text, way_out)
    if kind == "trace":
        return Lengths(kind="trace", low=1, high=_MOST_TOKENS)
    if kind == "fixed":
        return _bounded("fixed", numbers[0], numbers[0], field)
    if kind == "uniform":
        return _bounded("uniform", numbers[0], numbers[1], field)
    low, high = numbers[2:] if len(numbers) == allowed[kind][1] else (1.0, float(_MOST_TOKENS))
    bounds = _bounded(kind, low, high, field)
    return Lengths(kind=bounds.kind, low=bounds.low, high=bounds.high, mean=numbers[0], spread=numbers[1])


def _bounded(kind: Any, low: float, high: float, field: str) -> Lengths:
    if not (low.is_integer() and high.is_integer() and 1 <= low <= high):
        given: Any = f"{low:g} to {high:g}" if low != high else int(low) if low.is_integer() else low
        raise wrong(field, given, "give whole numbers of tokens, the least first and at least 1.")
    return Lengths(kind="fixed" if low == high and kind == "uniform" else kind, low=int(low), high=int(high))


def uniform(low: int, high: int, field: str) -> Lengths:
    """Every length between the two alike; the same twice is a fixed one."""
    return _bounded("uniform", float(low), float(high), field)


def parse_stages(texts: Sequence[str], ramp: Sequence[float] | None) -> tuple[Stage, ...]:
    """`30s:5` holds 5 for 30 s, `60s:5-50` goes from 5 to 50; `ramp` is (from, to, seconds). Raises `InvalidInput`."""
    stages = [_stage(text.strip()) for text in texts]
    if ramp:
        start, end, seconds = ramp
        stages.append(Stage(seconds, start, end))
    field = "ramp" if ramp else "stages"
    for one in stages:
        if one.duration_s <= 0 or min(one.start, one.end) < 0 or max(one.start, one.end) <= 0:
            raise wrong(field, f"{one.start:g} to {one.end:g} in {one.duration_s:g} s", "both must be above 0.")
    return tuple(stages)


def _stage(text: str) -> Stage:
    found = _STAGE.match(text)
    try:
        numbers = [float(found[name] or found["start"]) for name in ("time", "start", "end")] if found else []
    except ValueError:
        numbers = []
    if found is None or not numbers:
        raise wrong("stages", text, "write DURATION:LOAD, like 30s:5, or DURATION:FROM-TO, like 60s:5-50.")
    return Stage(numbers[0] * _SECONDS[found["unit"]], numbers[1], numbers[2])


def parse_sla(groups: Any) -> tuple[SloTerm, ...]:
    """EvalScope's `sla_params` as one objective. Its 100 % success rule is a term of it.

    Raises `InvalidInput` and `Unimplemented`.
    """
    if isinstance(groups, str):
        try:
            groups = parse_json(groups)
        except ValueError:
            raise wrong("sla_params", groups, 'write JSON like \'[{"p99_ttft": "<=500ms"}]\'.') from None
    groups = [groups] if isinstance(groups, Mapping) else groups
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) and group for group in groups) or not groups:
        raise wrong("sla_params", groups, 'write a list with one mapping, like [{"p99_ttft": "<=500ms"}].')
    if len(groups) > 1:
        raise Unimplemented(
            f"sla_params: {len(groups)} groups mean as many searches, and a load test makes one; run it once for each.",
            {"field": "sla_params"},
        )
    terms = [_criterion(str(name), value) for name, value in groups[0].items()]
    return (*terms, SloTerm("error_rate", "", 0.0))


def _criterion(name: str, value: Any) -> SloTerm:
    field = f"sla_params.{name}"
    if name not in SLA_METRICS:
        raise InvalidInput(
            f"{field}: there is no such metric; use one of {', '.join(sorted(SLA_METRICS))}.", {"field": field}
        )
    text = str(value)
    for other, ours in _OPERATORS.items():
        text = text.replace(other, ours)
    metric, statistic, scale_ms = SLA_METRICS[name]
    found = _CRITERION.match(text.strip())
    if found is not None and found["op"] in {"max", "min"}:
        raise Unimplemented(
            f"{field}: {value!r} looks for an extreme, which is no objective; sweep --parallel or --rate, and the "
            f"table says which level had the most throughput.",
            {"field": field},
        )
    try:
        limit = float(found["number"]) if found is not None else float("nan")
    except ValueError:
        limit = float("nan")
    if found is None or not 0 <= limit < float("inf") or (found["unit"] and not scale_ms):
        raise wrong(field, value, 'write an operator and a number, like "<=500ms" or ">=20".')
    if (found["op"] in {">", ">="}) is not (scale_ms == 0):
        raise wrong(field, value, f"{name} is bounded from {'below with >=' if scale_ms == 0 else 'above with <='}.")
    if found["unit"]:
        scale_ms = _SECONDS[found["unit"]] * 1000.0
    return SloTerm(metric, statistic, limit * (scale_ms or 1.0))
