"""From the slices of a level's seats to its document."""

from collections.abc import Sequence
from typing import Any, Literal

from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.load.arrivals import schedule
from evalmesh.load.measure.figures import build_level
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.inputs import GeneratorHealth, LevelInputs, second_of
from evalmesh.load.measure.table import concatenate, read_records
from evalmesh.load.server.readings import Reading
from evalmesh.load_generator.conductor.level_run import LevelRun
from evalmesh.load_generator.prompts import datasets
from evalmesh.load_generator.protocol import Done
from evalmesh.load_generator.seat.sampling import server_document
from evalmesh.load_generator.seat.shares import share_of
from evalmesh.load_generator.seat.slices import SeatData

State = Literal["done", "failed", "cancelled"]


def build_document(
    spec: LoadTestSpec, run: LevelRun, seats: Sequence[SeatData], readings: Sequence[Reading], notes: Sequence[str]
) -> dict[str, Any]:
    """The level's document (docs/perf-schema.md). Takes a while for large levels: not for an event loop."""
    planned = run.order.planned
    records = concatenate([read_records(one.records) for one in seats if one.records])
    ends = [one.slice.done.end_s for one in seats if one.slice is not None and one.slice.done is not None]
    end_s = max(ends, default=0.0)
    inputs = LevelInputs(
        level=planned.level,
        records=records,
        arrival=spec.arrival.kind,
        index=run.order.number,
        repeat=planned.repeat,
        role="level" if spec.search is None else "probe",
        state=_state(run, seats),
        planned=_planned(spec, run),
        seconds=tuple(second_of(one.seat, tick) for one in seats for tick in one.ticks),
        generators=tuple(_health(run, one) for one in seats),
        slo=spec.slo,
        start_time=run.start_time or None,
        end_time=run.start_time + end_s if run.start_time else None,
        error_messages=_examples(seats),
        notes=tuple(note for note in dict.fromkeys([*notes, planned.note, *_seat_notes(run, seats)]) if note),
    )
    document = build_level(inputs)
    document["server"] = server_document(readings, run.start_s, document)
    return document


def _state(run: LevelRun, seats: Sequence[SeatData]) -> State:
    if run.stopped:
        return "cancelled"
    ended = [one.slice for one in seats if one.slice is not None and one.slice.done is not None]
    # Early: a process was lost, there was no room for records, a row could not be read.
    return "done" if any(not one.error for one in ended) else "failed"


def _planned(spec: LoadTestSpec, run: LevelRun) -> int:
    """Requests of the plan; 0 where their number is known only afterwards."""
    order, prompts = run.order, spec.prompts
    number = max(0, schedule.planned(order.planned.level, spec.arrival, order.warmup) - order.warmup)
    if prompts.prompt or not datasets.get(prompts.dataset).conversations:
        return number
    turns = prompts.turns
    return number * turns.high if turns is not None and turns.low == turns.high else 0


def _health(run: LevelRun, one: SeatData) -> GeneratorHealth:
    position = list(run.order.seats).index(one.seat)
    cap = share_of(run.order.planned.level, position, len(run.order.seats)).parallel
    if one.slice is None:
        return GeneratorHealth(one.seat, cap=cap, lost=True, error=run.lost.get(one.seat, ""))
    done, left = one.slice.done, one.slice
    known = _known_health(done) if done is not None else {}
    return GeneratorHealth(
        seat=one.seat,
        host=left.host,
        cap=cap,
        # A generator whose feeder died has said how it ended, and is lost all the same.
        lost=done is None or left.error != done.error,
        clock_offset_s=-left.clock_offset_s,
        clock_error_s=left.clock_error_s,
        error=left.error,
        **known,
    )


def _known_health(done: Done) -> dict[str, Any]:
    return {
        "cpu": done.cpu_s / done.wall_s if done.wall_s > 0 else None,
        "loop_lag_p99_ms": done.loop_lag_p99_ms,
        "loop_lag_max_ms": done.loop_lag_max_ms,
        "peak_in_flight": done.peak_in_flight,
        "connections": done.connections,
        "max_rss_bytes": done.max_rss_bytes,
        "feed_starved": done.feed_starved > 0,
        "loop_lags": Histogram.decode(done.loop_lags) if done.loop_lags else None,
    }


def _examples(seats: Sequence[SeatData]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in seats:
        if one.slice is not None and one.slice.done is not None:
            for kind, message in one.slice.done.examples.items():
                found.setdefault(kind, message)
    return found


def _seat_notes(run: LevelRun, seats: Sequence[SeatData]) -> list[str]:
    notes = [f"Seat {seat} was lost: {why}." for seat, why in run.lost.items()]
    for one in seats:
        if one.slice is None:
            continue
        if one.slice.error and one.seat not in run.lost:
            notes.append(f"Seat {one.seat}: {one.slice.error}")
        if one.slice.fed is not None:
            notes += [one.slice.fed.note] if one.slice.fed.note else []
            if one.slice.fed.repeated:
                notes.append("Prompts had to be used more than once: caches of the server may have helped.")
    return [note for note in notes if note]
