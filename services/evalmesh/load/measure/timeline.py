"""A level in time, and its distributions, for plots."""

from typing import Any

import numpy as np

from evalmesh.load.measure.distributions import PROBABILITIES, number
from evalmesh.load.measure.gaps import quantiles_by_row
from evalmesh.load.measure.inputs import Second
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.table import Floats, Rows, is_ok, was_sent

_TO_MS = 1000.0
_COUNTS = ("sent", "ok", "errors", "input_tokens", "output_tokens")
_PLOTTED = ("ttft", "ttft_due", "itl", "chunk_gap", "tpot", "tpot_due", "e2e", "e2e_due", "queue", "send_lag")


def timeline_document(measured: Measured) -> dict[str, Any]:
    """`timeline` of a level's document: counts as the generators told them, percentiles of records."""
    inputs = measured.inputs
    step, rows = measured.steps
    records = measured.records
    ok = records.where(is_ok(records))
    told: dict[str, Any] = {"step_s": step, "t_s": [row * step for row in range(rows)]}
    told["offered"] = _offered(measured, rows, step)
    told |= _counts(inputs.seconds, rows, step) if inputs.seconds else _counts_of_records(records, rows, step)
    first, last, send = ok["first_s"], ok["last_s"], ok["send_s"]
    told["ttft_p50_ms"], told["ttft_p99_ms"] = _by_row(first, first - send, rows, step, (0.5, 0.99))
    from_due = first - ok["due_s"] if measured.open_loop else np.full(len(ok), np.nan)
    (told["ttft_due_p99_ms"],) = _by_row(first, from_due, rows, step, (0.99,))
    told["itl_p50_ms"], told["itl_p99_ms"] = quantiles_by_row(measured.gaps["itl"], (0.5, 0.99))
    told["e2e_p50_ms"], told["e2e_p99_ms"] = _by_row(last, last - send, rows, step, (0.5, 0.99))
    sent = records.where(was_sent(records))
    (told["send_lag_p99_ms"],) = _by_row(sent["send_s"], sent["send_s"] - sent["due_s"], rows, step, (0.99,))
    return {name: _plain(values) if name not in {"step_s", "t_s"} else values for name, values in told.items()}


def _plain(values: list[Any]) -> list[float | None]:
    return [None if value is None else number(value) for value in values]


def _offered(measured: Measured, rows: int, step: int) -> list[Any]:
    if not measured.open_loop:
        return [None] * rows
    return _per_row(measured.records["due_s"], rows, step)


def _rows_of(times_s: Floats, rows: int, step: int) -> tuple[Any, Any]:
    """The row of each moment, and which moments have one."""
    inside = (times_s >= 0) & (times_s < rows * step)
    return (times_s[inside] // step).astype(np.int64), inside


def _per_row(times_s: Floats, rows: int, step: int, weights: Floats | None = None) -> list[Any]:
    row, inside = _rows_of(times_s, rows, step)
    chosen = None if weights is None else weights[inside]
    counted: list[Any] = np.bincount(row, chosen, minlength=rows).tolist()
    return counted


def _counts(seconds: tuple[Second, ...], rows: int, step: int) -> dict[str, list[Any]]:
    """Sums over a step; in flight, queued: at its end; CPU: the busiest engine's mean; lag: the longest."""
    told: dict[str, list[Any]] = {name: [0] * rows for name in (*_COUNTS, "in_flight", "queued")}
    told["cpu"], told["loop_lag_ms"] = [None] * rows, [None] * rows
    busy: list[dict[int, list[float]]] = [{} for _ in range(rows)]
    for second in seconds:
        row = second.second // step
        if not 0 <= row < rows:
            continue
        for name in _COUNTS:
            told[name][row] += getattr(second, name)
        if second.second % step == step - 1 or row == rows - 1:
            told["in_flight"][row] += second.in_flight
            told["queued"][row] += second.queued
        busy[row].setdefault(second.generator, []).append(second.cpu)
        told["loop_lag_ms"][row] = max(second.loop_lag_ms, told["loop_lag_ms"][row] or 0.0)
    told["cpu"] = [max((sum(used) / len(used) for used in engines.values()), default=None) for engines in busy]
    return told


def _counts_of_records(records: Rows, rows: int, step: int) -> dict[str, list[Any]]:
    """The same from records, when no generator told anything (its events are kept for a bounded time)."""
    sent = records.where(was_sent(records))
    ok = is_ok(sent)
    begun, ended = np.sort(sent["send_s"]), np.sort(sent["end_s"])
    edges = (np.arange(rows) + 1) * float(step)
    in_flight = np.searchsorted(begun, edges) - np.searchsorted(ended, edges)
    good = sent.where(ok)
    weights = {name: good[name].astype(np.float64) for name in ("input_tokens", "output_tokens")}
    return {
        "sent": _per_row(sent["send_s"], rows, step),
        "ok": _per_row(sent["end_s"][ok], rows, step),
        "errors": _per_row(sent["end_s"][~ok], rows, step),
        "in_flight": in_flight.tolist(),
        "queued": [0] * rows,
        **{name: _per_row(sent["end_s"][ok], rows, step, counts) for name, counts in weights.items()},
        "cpu": [None] * rows,
        "loop_lag_ms": [None] * rows,
    }


def _by_row(
    times_s: Floats, values_s: Floats, rows: int, step: int, probabilities: tuple[float, ...]
) -> list[list[float | None]]:
    """Percentiles, in ms, of the values whose moment is in each step."""
    row, inside = _rows_of(times_s, rows, step)
    values = values_s[inside]
    exists = ~np.isnan(values)
    row, values = row[exists], values[exists] * _TO_MS
    # One sort of step and value together: values, brought below 1, in the fraction.
    scale = float(np.abs(values).max(initial=0)) * 2.000001 or 1.0
    ordered = (np.sort(row + (values / scale + 0.5)) % 1 - 0.5) * scale
    sizes = np.bincount(row, minlength=rows)
    begin = np.cumsum(sizes) - sizes
    told: list[list[float | None]] = []
    for q in probabilities:
        ranks = begin + np.floor(q * np.maximum(sizes - 1, 0) + 0.5).astype(np.int64)
        told.append([round(float(ordered[rank]), 6) if size else None for rank, size in zip(ranks, sizes, strict=True)])
    return told


def distributions_document(measured: Measured) -> dict[str, Any]:
    """`distributions` of a level's document."""
    values = {}
    for name in _PLOTTED:
        of = measured.distributions.get(name)
        if of is not None and of.n:
            values[f"{name}_ms"] = [number(value) for value in of.quantiles(PROBABILITIES)]
    return {"probabilities": [number(q) for q in PROBABILITIES], "values": values}
