"""One level's records and ticks, turned into its document (docs/perf-schema.md). The only place where that happens."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.arrivals.schedule import duration_s
from evalmesh.load.measure.by_length import lengths_document
from evalmesh.load.measure.client import client_document, cpu_of
from evalmesh.load.measure.counts import count, examples_document, warmup_document
from evalmesh.load.measure.distributions import exact, number, pair, summary, token_summary
from evalmesh.load.measure.goodput import goodput_document
from evalmesh.load.measure.inputs import GeneratorHealth, LevelInputs
from evalmesh.load.measure.measured import Measured, measure
from evalmesh.load.measure.records import Flag, Outcome
from evalmesh.load.measure.table import Rows, by_class, is_ok, tpot_s, was_sent
from evalmesh.load.measure.timeline import distributions_document, timeline_document
from evalmesh.load.objective.judging import judge, slo_document

SCHEMA_VERSION = 1
MOST_TURNS = 50
_SUMMARIES = ("ttft", "itl", "chunk_gap", "tpot", "e2e", "queue", "send_lag", "connect", "first_byte")
_FROM_DUE = ("ttft_due", "tpot_due", "e2e_due")
_RATES = ("request_rate", "offered_rate", "input_token_rate", "output_token_rate", "total_token_rate")
_RATES_WITH_INTERVAL = ("request_rate", "input_token_rate", "output_token_rate", "total_token_rate", "error_rate")
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_TO_MS = 1000.0


def label(level: LoadLevel, arrival: str) -> str:
    """What a level is called in tables; equal for its repeats."""
    if level.stages:
        loads = [f"{stage.start:g}-{stage.end:g}" for stage in level.stages]
        return f"stages {', '.join(loads)}"
    if arrival == "trace":
        return "trace"
    if arrival == "closed" or level.rate <= 0:
        return f"parallel {level.parallel}"
    cap = f", at most {level.parallel}" if level.parallel else ""
    return f"rate {level.rate:g}{cap}"


def build_level(inputs: LevelInputs) -> dict[str, Any]:
    """The document of one level: valid under `#/$defs/level` of docs/perf.schema.json.

    Raises `InternalError` when the counts do not add up to the plan.
    """
    measured = measure(inputs)
    client = client_document(measured)
    return {
        **_asked(inputs),
        **_became(inputs, measured.records),
        **_figures(measured),
        "client_limited": client["limited"],
        "client": client,
        "generators": [_generator(one, measured) for one in inputs.generators],
        "timeline": timeline_document(measured),
        "distributions": distributions_document(measured),
        "turns": _turns(measured),
        "lengths": lengths_document(measured),
        "server": inputs.server,
        "notes": [*inputs.notes, *_notes(measured)],
    }


def time_text(unix_s: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if unix_s is None:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _asked(inputs: LevelInputs) -> dict[str, Any]:
    level = inputs.level
    return {
        "schema_version": SCHEMA_VERSION,
        "index": inputs.index,
        "repeat": inputs.repeat,
        "role": inputs.role,
        "state": inputs.state,
        "label": label(level, inputs.arrival),
        "arrival": inputs.arrival,
        "parallel": level.parallel,
        "rate": level.rate,
        "number": level.number,
        "level_duration_s": level.duration_s,
        "stages": [{"duration_s": s.duration_s, "start": s.start, "end": s.end} for s in level.stages],
        "start_time": time_text(inputs.start_time),
        "end_time": time_text(inputs.end_time),
    }


def _became(inputs: LevelInputs, records: Rows) -> dict[str, Any]:
    counts = count(inputs, records)
    return {
        "planned": counts.planned,
        "requests": counts.sent,
        "sent": counts.sent,
        "ok": counts.ok,
        "errors": counts.errors,
        "cancelled": counts.errors.get("cancelled", 0),
        "unsent": counts.unsent,
        "skipped": counts.skipped,
        "lost": counts.lost,
        "warmup": warmup_document(records),
        "error_examples": examples_document(inputs, records),
    }


def _figures(measured: Measured) -> dict[str, Any]:
    window, ok, rates, of = measured.window, measured.ok, measured.rates, measured.distributions
    told: dict[str, Any] = {
        "wall_s": _wall_s(measured.figures),
        "window": {
            "start_s": number(window.start_s),
            "end_s": number(window.end_s),
            "duration_s": number(window.duration_s),
            "rate_start_s": number(window.rate_start_s),
            "rate_end_s": number(window.rate_end_s),
            "requests": len(measured.due),
            "ok": len(ok),
            "errors": by_class(measured.due),
            "effective_requests": _or_none(_effective(measured)),
            "rule": window.rule,
            "steady": window.steady,
            "drift": _or_none(window.drift),
            "note": window.note,
        },
        "error_rate": _or_none(rates["error_rate"].value),
        **{name: _or_none(rates[name].value) for name in _RATES},
        "rates_ci95": {name: pair(rates[name].interval) for name in _RATES_WITH_INTERVAL},
        **{f"{name}_ms": summary(of[name]) for name in _SUMMARIES},
        **{f"{name}_ms": summary(of[name]) if name in of else None for name in _FROM_DUE},
        **{name: token_summary(ok, name) for name in _TOKENS},
        "token_source": _token_source(ok),
        "token_mismatches": int(((ok["flags"] & Flag.MISMATCH) != 0).sum()),
        "goodput": goodput_document(measured),
        "slo": slo_document(judge(measured)),
    }
    return told


def _effective(measured: Measured) -> float | None:
    """What the requests are worth as independent ones, by the latency whose neighbours are most alike."""
    of = (measured.distributions.get(name) for name in ("ttft", "tpot", "e2e", "ttft_due", "e2e_due"))
    return min((one.n / one.inflation() for one in of if one is not None and one.n), default=None)


def _or_none(value: float | None) -> float | None:
    return None if value is None else number(value)


def _wall_s(figures: Rows) -> float:
    sent = figures.where(was_sent(figures))
    begun, ended = sent["send_s"], sent["end_s"]
    if not len(sent) or np.isnan(begun).all() or np.isnan(ended).all():
        return 0.0
    return number(max(0.0, float(np.nanmax(ended) - np.nanmin(begun)))) or 0.0


def _token_source(ok: Rows) -> str:
    if not len(ok) or not (ok["output_tokens"] | ok["input_tokens"]).any():
        return "none"
    share = float(((ok["flags"] & Flag.USAGE) != 0).mean())
    return "usage" if share == 1 else "counted" if share == 0 else "mixed"


def _generator(one: GeneratorHealth, measured: Measured) -> dict[str, Any]:
    own = measured.figures.where(measured.figures["generator"] == one.seat)
    cpu = cpu_of(one, measured)
    return {
        "seat": one.seat,
        "host": one.host,
        "requests": int(was_sent(own).sum()),
        "ok": int(is_ok(own).sum()),
        "errors": by_class(own),
        "unsent": int((own["outcome"] == Outcome.UNSENT).sum()),
        "lost": one.lost,
        "cap": one.cap,
        "clock_offset_s": one.clock_offset_s,
        "clock_error_s": one.clock_error_s,
        "cpu": _or_none(cpu),
        "loop_lag_p99_ms": _or_none(one.loop_lag_p99_ms),
        "loop_lag_max_ms": _or_none(one.loop_lag_max_ms),
        "peak_in_flight": one.peak_in_flight,
        "error": one.error,
    }


def _turns(measured: Measured) -> list[dict[str, Any]]:
    due = measured.due
    most = int(due["turn"].max()) if len(due) else 0
    if not most:
        return []
    told = [_turn("first", 0, due.where(due["turn"] == 0)), _turn("later", None, due.where(due["turn"] > 0))]
    told += [
        _turn(f"turn {turn + 1}", turn, due.where(due["turn"] == turn)) for turn in range(min(most + 1, MOST_TURNS))
    ]
    return told


def _turn(name: str, turn: int | None, due: Rows) -> dict[str, Any]:
    ok = due.where(is_ok(due))
    return {
        "name": name,
        "turn": turn,
        "requests": len(due),
        "ok": len(ok),
        "ttft_ms": summary(exact((ok["first_s"] - ok["send_s"]) * _TO_MS)),
        "tpot_ms": summary(exact(tpot_s(ok) * _TO_MS)),
        "e2e_ms": summary(exact((ok["last_s"] - ok["send_s"]) * _TO_MS)),
        **{name: token_summary(ok, name) for name in ("input_tokens", "output_tokens", "cached_tokens")},
    }


def _cut_off(measured: Measured) -> list[str]:
    """That time ended a level before its number did, which is no trouble where both were asked for."""
    inputs, figures = measured.inputs, measured.figures
    asked, limit_s = inputs.level.number, duration_s(inputs.level)
    sent = int(was_sent(figures).sum())
    hurt = inputs.state != "done" or any(one.lost or one.error for one in inputs.generators)
    # A number of conversations is no number of requests, and a trace may have fewer of them.
    if sent >= asked or math.isinf(limit_s) or hurt or inputs.arrival == "trace" or figures["turn"].any():
        return []
    return [f"{sent:,} of {asked:,} requests were sent: then the {limit_s:g} s of the level were over."]


def _notes(measured: Measured) -> list[str]:
    """What a reader must know and could overlook."""
    inputs, figures = measured.inputs, measured.figures
    told = []
    for one in inputs.generators:
        if one.lost and not one.error:
            where = f" on {one.host}" if one.host else ""
            told.append(f"Generator {one.seat}{where} was lost: its load is missing from this level.")
    unsent = int(((figures["outcome"] == Outcome.UNSENT) & measured.window.due(figures)).sum())
    if measured.open_loop and unsent:
        told.append(
            f"{unsent} requests were due in the window and never sent: no latency of theirs is in the figures, "
            "which are therefore too low."
        )
    told += _cut_off(measured)
    if measured.window.rule in {"whole", "stages"} and measured.window.note:
        told.append(measured.window.note)
    return told
