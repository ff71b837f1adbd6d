from dataclasses import replace

import numpy as np
import pytest
from tests.kit.load_levels import Server, closed, inputs, open_loop, records

from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.client import send_lag_bound_ms
from evalmesh.load.measure.figures import build_level
from evalmesh.load.measure.inputs import GeneratorHealth, Second
from evalmesh.load.measure.table import Records

SERVER = Server(slots=1000)
HEALTHY = GeneratorHealth(0, cap=20, cpu=0.2, loop_lag_p99_ms=0.2, loop_lag_max_ms=3.0, peak_in_flight=20)


def client(table: Records, level: LoadLevel, *health: GeneratorHealth, **other: object) -> dict:
    return build_level(inputs(table, level, generators=health or (HEALTHY,), seconds=(), **other))["client"]


def late(table: Records, lag_s: float) -> Records:
    for name in ("send_s", "first_s", "last_s", "end_s"):
        table[name] += lag_s
    return table


def test_a_client_with_time_to_spare_is_not_limited() -> None:
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=20))
    assert told["limited"] is False
    assert told["reasons"] == []
    assert told["peak_in_flight"] == 20
    assert told["send_lag_bound_ms"] == 2.0


@pytest.mark.parametrize(
    ("ttft_p50_ms", "bound_ms"), [(1000.0, 5.0), (100.0, 2.0), (10.0, 1.0), (0.5, 1.0), (float("nan"), 5.0)]
)
def test_the_send_lag_is_held_to_a_share_of_the_ttft(ttft_p50_ms: float, bound_ms: float) -> None:
    assert send_lag_bound_ms(ttft_p50_ms) == bound_ms


def test_late_sends_are_told() -> None:
    told = client(late(open_loop(SERVER, np.arange(1000) / 50), 0.003), LoadLevel(rate=50), arrival="constant")
    assert told["limited"] is True
    assert told["send_lag_p99_ms"] == pytest.approx(3)
    assert "p99 of the send lag is 3 ms, the bound 2 ms" in told["reasons"][0]
    assert told["feed_starved"] is True  # nothing else was busy
    assert "feeder" in told["reasons"][1]


def test_a_wait_for_the_cap_is_no_lag_of_the_client() -> None:
    """A frozen server and a cap: requests are sent as soon as an answer makes room, late by the schedule."""
    due = np.arange(1000) / 100
    slots, rows, sends = [0.0] * 10, [], []
    for at in due:
        slots.sort()
        send = max(float(at), slots[0])
        frozen = 1.0 if int(send) % 5 == 2 else 0.0
        slots[0] = send + 0.1 + frozen
        sends.append(send)
        rows.append((at, send + 0.05 + frozen, slots[0], 6))
    table = records(rows)
    table["send_s"] = sends
    told = build_level(inputs(table, LoadLevel(rate=100, parallel=10), arrival="constant", seconds=()))
    assert told["queue_ms"]["p99"] > 500
    assert told["send_lag_ms"]["max"] < 0.001
    assert told["client_limited"] is False
    table["send_s"] += 0.02
    late_by_20 = build_level(inputs(table, LoadLevel(rate=100, parallel=10), arrival="constant", seconds=()))
    assert late_by_20["send_lag_ms"]["p50"] == pytest.approx(20, abs=0.1)
    assert late_by_20["client_limited"] is True


def test_the_burst_in_which_a_closed_loop_begins_is_no_lag() -> None:
    table = closed(SERVER, 500, 5000)
    first = table["due_s"] == 0
    table["send_s"][first] = np.linspace(0, 0.03, int(first.sum()))
    told = client(table, LoadLevel(parallel=500), replace(HEALTHY, cap=500))
    assert told["limited"] is False


def test_a_busy_core_is_told_by_generator() -> None:
    table = closed(SERVER, 20, 600)
    told = client(table, LoadLevel(parallel=20), HEALTHY, replace(HEALTHY, seat=1, cpu=0.93))
    assert told["cpu"] == pytest.approx(0.93)
    assert told["reasons"] == ["Generator 1 used 93% of its core; from 85% on it is late."]


def test_one_busy_second_is_not_a_busy_core() -> None:
    table = closed(SERVER, 20, 600)
    seconds = tuple(Second(s, 0, cpu=1.0 if s == 0 else 0.2) for s in range(10))
    told = build_level(inputs(table, LoadLevel(parallel=20), generators=(HEALTHY,), seconds=seconds))
    assert told["client_limited"] is False
    assert told["client"]["cpu"] < 0.4


def test_a_late_event_loop_is_told() -> None:
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=20), replace(HEALTHY, loop_lag_p99_ms=8.0))
    assert told["reasons"] == ["The event loop was late: p99 8 ms, the bound 5 ms."]


def test_an_empty_feed_matters_only_where_requests_left_late() -> None:
    starved = replace(HEALTHY, feed_starved=True)
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=20), starved)
    assert (told["limited"], told["feed_starved"]) == (False, True)
    table = late(open_loop(SERVER, np.arange(1000) / 50), 0.05)
    told = client(table, LoadLevel(rate=50), starved, arrival="constant")
    assert any("feeder fell behind" in reason for reason in told["reasons"])


def test_slots_that_were_never_used_are_told() -> None:
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=64))
    assert told["reasons"] == ["At most 20 of 64 requests were in flight at once although more were waiting."]
    # A server so fast that one answer is there before the next request leaves, or too few requests: no judgement.
    assert client(closed(SERVER, 20, 100), LoadLevel(parallel=64))["limited"] is False
