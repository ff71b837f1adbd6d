"""How much load, in which order, and when requests are due: a config's levels, arrivals and search."""

from typing import Any

from evalmesh.cli.perf.config import TRACES, PerfConfig
from evalmesh.cli.perf.values import parse_sla, parse_stages, wrong
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import Arrival, ArrivalSpec, LoadLevel, SearchSpec, SloTerm
from evalmesh.load.objective.slo import parse_slo

DEFAULT_NUMBER = 1000
_SPEED_NUMBERS = {"speed_benchmark": 8, "speed_benchmark_long": 4}
"""Two requests of each length."""
_PAUSE_S = 5.0
_SLA_RUNS = 3
"""EvalScope's defaults."""


def arrival_of(config: PerfConfig) -> ArrivalSpec:
    """When requests are due. Raises `InvalidInput`."""
    kind = config.arrival or _usual_arrival(config)
    if config.trace_speed is not None and kind != "trace":
        raise InvalidInput(
            f"trace_speed: it is for arrival 'trace', and this is {kind!r}; leave it out, or leave out rate.",
            {"field": "trace_speed"},
        )
    return ArrivalSpec(kind=kind, burstiness=config.burstiness or 1.0, speed=config.trace_speed or 1.0)


def _usual_arrival(config: PerfConfig) -> Arrival:
    if config.rate or config.stages or config.ramp or config.searched == "rate":
        return "poisson" if config.burstiness is None else "gamma"
    if config.burstiness is not None:
        raise InvalidInput("burstiness: it needs rate, the requests due per second.", {"field": "burstiness"})
    return "trace" if config.dataset in TRACES and not config.parallel else "closed"


def levels_of(config: PerfConfig, kind: Arrival) -> tuple[LoadLevel, ...]:
    """The levels in their order; with a search the one level all its probes are made after."""
    if config.searched:
        return (_probe(config),)
    duration_s = config.duration or 0.0
    stages = parse_stages(config.stages, config.ramp)
    if stages:
        number = config.number[0] if config.number else 0
        peak = max(max(stage.start, stage.end) for stage in stages)
        cap = config.parallel[0] if config.parallel and not config.open_loop else 0
        if kind == "closed":
            _check_whole(config, peak)
            cap = int(peak)
        rate = config.rate[0] if config.rate else 0.0
        return (LoadLevel(parallel=cap, rate=rate, number=number, stages=stages),)
    usual = 0 if duration_s or kind == "trace" else _SPEED_NUMBERS.get(config.dataset or "", DEFAULT_NUMBER)
    caps = config.parallel or ([0] if kind != "closed" else [1])
    caps = [0] if config.open_loop else caps
    rates, numbers = config.rate or [0.0], config.number or [usual]
    count = max(len(caps), len(rates), len(numbers))
    rows = zip(*(values * count if len(values) == 1 else values for values in (caps, rates, numbers)), strict=True)
    return tuple(LoadLevel(parallel=cap, rate=rate, number=number, duration_s=duration_s) for cap, rate, number in rows)


def _check_whole(config: PerfConfig, peak: float) -> None:
    if not peak.is_integer():
        raise wrong("stages", config.stages or config.ramp, "requests in flight are counted in whole numbers.")


def _probe(config: PerfConfig) -> LoadLevel:
    for name in ("parallel", "rate", "number"):
        if len(getattr(config, name)) > 1:
            raise InvalidInput(
                f"{name}: {getattr(config, name)} makes levels, and find_max makes its own; give at most one value.",
                {"field": name},
            )
    number = config.number[0] if config.number else 0
    if config.searched == "parallel":
        return LoadLevel(parallel=1, number=number)
    cap = config.sla_fixed_parallel or (config.parallel[0] if config.parallel else 0)
    return LoadLevel(parallel=0 if config.open_loop else cap, rate=config.sla_lower_bound or 1.0, number=number)


def search_of(config: PerfConfig) -> SearchSpec | None:
    """What is looked for, if anything is."""
    if not config.searched:
        return None
    default = SearchSpec(config.searched)
    runs = config.sla_num_runs or (_SLA_RUNS if config.sla_auto_tune else config.repeats)
    return SearchSpec(
        variable=config.searched,
        low=config.sla_lower_bound or default.low,
        high=config.sla_upper_bound or default.high,
        level_s=config.duration or default.level_s,
        repeats=runs,
    )


def objective_of(config: PerfConfig) -> tuple[SloTerm, ...]:
    """The terms that must hold, in whichever way they were given."""
    if config.slo:
        return tuple(parse_slo(config.slo))
    return parse_sla(config.sla_params) if config.sla_params else ()


def pause_of(config: PerfConfig) -> float:
    """Seconds between levels. Probes of a search follow at once unless a pause was asked for."""
    return config.sleep_interval if config.sleep_interval is not None else 0.0 if config.searched else _PAUSE_S


def load_notes(config: PerfConfig) -> list[str]:
    """What is taken in another way than it was said."""
    notes = []
    if config.open_loop and config.parallel:
        notes.append(f"parallel: {_listed(config.parallel)} is not used; with open_loop nothing holds requests back.")
    if config.searched and config.searched in {"parallel", "rate"} and getattr(config, config.searched):
        notes.append(f"{config.searched}: not used; the search begins at sla_lower_bound (1).")
    return notes


def _listed(values: list[Any]) -> str:
    return " ".join(map(str, values))
