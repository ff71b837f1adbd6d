from dataclasses import replace

import numpy as np
import pytest
from tests.kit.load_levels import Server, closed, inputs, open_loop, records

from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.figures import build_level
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.inputs import GeneratorHealth, Second
from evalmesh.load.measure.table import Records

SERVER = Server(slots=1000)
"""TTFT 100 ms, E2E about 400."""
HEALTHY = GeneratorHealth(0, cap=20, cpu=0.2, loop_lag_p99_ms=0.2, loop_lag_max_ms=3.0, peak_in_flight=20)
UNCAPPED = replace(HEALTHY, cap=0)


def client(table: Records, level: LoadLevel, *health: GeneratorHealth, **other: object) -> dict:
    return build_level(inputs(table, level, generators=health or (HEALTHY,), seconds=(), **other))["client"]


def late(table: Records, lag_s: float | np.ndarray) -> Records:
    for name in ("send_s", "first_s", "last_s", "end_s"):
        table[name] += lag_s
    return table


def lags(*parts: tuple[float, int]) -> GeneratorHealth:
    """A loop that was late by so many milliseconds, at so many probes."""
    found = Histogram()
    for lag_ms, times in parts:
        found.add(lag_ms / 1000, times)
    return replace(HEALTHY, loop_lags=found, loop_lag_p99_ms=found.quantile(0.99) * 1000)


def test_a_client_with_time_to_spare_is_fine() -> None:
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=20))
    assert (told["limited"], told["grade"], told["reasons"], told["advice"]) == (False, "fine", [], [])
    assert told["peak_in_flight"] == 20
    assert told["send_lag_bound_ms"] == pytest.approx(10), "a tenth of the p99 of TTFT"


@pytest.mark.parametrize(
    ("lag_ms", "grade"), [(0.9, "fine"), (5, "fine"), (9, "fine"), (15, "noted"), (60, "unusable")]
)
def test_lateness_is_held_against_what_is_measured(lag_ms: float, grade: str) -> None:
    level = LoadLevel(rate=50)
    told = client(late(open_loop(SERVER, np.arange(1000) / 50), lag_ms / 1000), level, UNCAPPED, arrival="constant")
    assert told["grade"] == grade
    assert told["limited"] is (grade == "unusable")
    assert told["send_lag_p99_ms"] == pytest.approx(lag_ms)
    if grade != "fine":
        assert "100% of the requests were sent late, by more than" in told["reasons"][0]


def test_a_few_late_requests_of_few_are_chance() -> None:
    """The p99 of eight requests is the slowest of them."""
    lag_s = np.zeros(8)
    lag_s[3] = 0.08
    told = client(late(open_loop(SERVER, np.arange(8) / 4), lag_s), LoadLevel(rate=4), UNCAPPED, arrival="constant")
    assert told["grade"] == "fine"
    lag_s = np.where(np.arange(2000) % 50 == 0, 0.08, 0.0)
    told = client(
        late(open_loop(SERVER, np.arange(2000) / 50), lag_s), LoadLevel(rate=50), UNCAPPED, arrival="constant"
    )
    assert told["grade"] == "unusable", "2% of two thousand are the p99"


def test_a_client_short_of_prompts_is_told_how_to_get_them() -> None:
    table = late(open_loop(SERVER, np.arange(1000) / 50), 0.05)
    told = client(table, LoadLevel(rate=50), arrival="constant")
    assert told["feed_starved"] is True, "nothing else was busy"
    assert any("Prompts were not prepared in time" in reason for reason in told["reasons"])
    assert told["advice"] == ["use more --generators: each prepares prompts in a process of its own"]
    starved = replace(HEALTHY, feed_starved=True)
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=20), starved)
    assert (told["grade"], told["feed_starved"]) == ("fine", True), "no request left late for it"


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
    assert told["client"]["grade"] == "fine"
    # Late by 20 ms, where the wait for the cap is half a second: that is no part of it that matters.
    table["send_s"] += 0.02
    late_by_20 = build_level(inputs(table, LoadLevel(rate=100, parallel=10), arrival="constant", seconds=()))
    assert late_by_20["send_lag_ms"]["p50"] == pytest.approx(20, abs=0.1)
    assert late_by_20["client"]["grade"] == "fine"


def test_the_burst_in_which_a_closed_loop_begins_is_no_lag() -> None:
    table = closed(SERVER, 500, 5000)
    first = table["due_s"] == 0
    table["send_s"][first] = np.linspace(0, 0.03, int(first.sum()))
    told = client(table, LoadLevel(parallel=500), replace(HEALTHY, cap=500))
    assert told["grade"] == "fine"


def test_idle_slots_of_a_closed_loop_are_throughput_lost() -> None:
    table = closed(SERVER, 20, 600)
    told = client(late(table, 0.2), LoadLevel(parallel=20))
    assert told["limited"] is True
    assert "mean E2E" in told["reasons"][0]


def test_a_busy_core_is_noted_and_a_full_one_is_the_bottleneck() -> None:
    table = closed(SERVER, 20, 600)
    told = client(table, LoadLevel(parallel=20), HEALTHY, replace(HEALTHY, seat=1, cpu=0.93))
    assert told["cpu"] == pytest.approx(0.93)
    assert told["reasons"] == ["Generator 1 used 93% of its core; from 85% on it may be late."]
    assert (told["grade"], told["limited"]) == ("noted", False)
    assert "--generators" in told["advice"][0]
    assert client(table, LoadLevel(parallel=20), replace(HEALTHY, cpu=0.99))["limited"] is True


def test_one_busy_second_is_not_a_busy_core() -> None:
    table = closed(SERVER, 20, 600)
    seconds = tuple(Second(s, 0, cpu=1.0 if s == 0 else 0.2) for s in range(10))
    told = build_level(inputs(table, LoadLevel(parallel=20), generators=(HEALTHY,), seconds=seconds))
    assert told["client"]["grade"] == "fine"
    assert told["client"]["cpu"] < 0.4
    alone = build_level(
        inputs(table, LoadLevel(parallel=20), generators=(replace(HEALTHY, cpu=0.99),), seconds=seconds[:1])
    )
    assert alone["client"]["grade"] == "fine"


@pytest.mark.parametrize(
    ("health", "grade"),
    [
        (lags((0.3, 1000)), "fine"),
        (lags((0.3, 1000), (80, 3)), "fine"),  # one hiccup
        (lags((0.3, 1000), (15, 60)), "noted"),
        (lags((0.3, 1000), (500, 60)), "unusable"),
        (lags((12, 1000)), "noted"),
        (lags((50, 1000)), "unusable"),
        (replace(HEALTHY, loop_lag_p99_ms=8.0), "fine"),
        (replace(HEALTHY, loop_lag_p99_ms=15.0), "noted"),
        (replace(HEALTHY, loop_lag_p99_ms=40.0), "unusable"),
    ],
)
def test_a_late_event_loop_is_told_where_it_shows(health: GeneratorHealth, grade: str) -> None:
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=20), health)
    assert told["grade"] == grade
    if grade != "fine":
        assert "Answers were seen late in" in told["reasons"][0]
        assert "free this machine" in told["advice"][0]


def test_a_stop_shows_in_the_mean_of_a_few_requests() -> None:
    """A second in which the process was stopped, of five: too few requests for a p99, and their mean is wrong."""
    stopped = lags((0.2, 200), *((1000 - 20 * n, 1) for n in range(50)))
    told = client(closed(SERVER, 5, 30), LoadLevel(parallel=5), replace(stopped, cap=5))
    assert told["limited"] is True
    assert "mean TTFT" in told["reasons"][0]


def test_slots_that_were_never_used_are_told() -> None:
    told = client(closed(SERVER, 20, 600), LoadLevel(parallel=64))
    assert told["reasons"] == ["At most 20 of 64 requests were in flight at once although more were waiting."]
    assert told["limited"] is True
    # A server so fast that one answer is there before the next request leaves, or too few requests: no judgement.
    assert client(closed(SERVER, 20, 100), LoadLevel(parallel=64))["limited"] is False
