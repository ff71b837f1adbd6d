"""The live view of a level: seconds of all seats merged."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.load_test import LatencyQuantiles
from evalmesh.load.measure.histogram import RELATIVE_ERROR, Histogram
from evalmesh.load.measure.live import WINDOW_S, LiveLevel
from evalmesh.load.measure.ticks import SeatTick, Sketches, Tick, decode_seat_tick, encode_seat_tick


def tick(second, number=0, **more):
    counts = {"sent": 10, "ok": 10, "errors": {}, "in_flight": 4, "queued": 0, "input_tokens": 0, "output_tokens": 640}
    rest = {"good": 0, "sketches": Sketches(), "cpu": 0.1, "loop_lag_ms": 0.5}
    return Tick(number=number, second=second, **{**counts, **rest, **more})


def level(**more):
    return LiveLevel(**{"open_loop": False, "has_objective": False, **more})


def told(live, seat, *ticks):
    """Each second is told half a second after its end, at once."""
    for one in ticks:
        live.add(SeatTick(seat, one), one.second + 1.5, one.second + 1.5)


def sketch(*values_s):
    histogram = Histogram()
    histogram.add_all(values_s)
    return histogram.encode()


def test_before_anything_is_told_there_is_nothing_to_see():
    assert level().snapshot(0.0) is None


def test_rates_are_those_of_the_last_seconds_and_counts_those_of_the_level():
    live = level()
    told(live, 0, *(tick(second, sent=1000, errors={"reset": 2}) for second in range(3)))
    told(live, 0, *(tick(second) for second in range(3, 3 + WINDOW_S)))
    seen = live.snapshot(9.0)
    assert (seen.sent_rate, seen.ok_rate, seen.output_token_rate) == (10.0, 10.0, 640.0)
    assert (seen.sent, seen.ok, seen.errors) == (3050, 80, {"reset": 6})
    assert (seen.elapsed_s, seen.window_s, seen.level_index) == (8.0, 5.0, 0)


def test_seats_are_added_up_and_one_that_is_a_second_behind_lowers_no_rate():
    live = level()
    told(live, 0, *(tick(second) for second in range(8)))
    told(live, 1, *(tick(second, sent=30, cpu=0.9, loop_lag_ms=7.0) for second in range(7)))
    seen = live.snapshot(9.0)
    assert seen.sent_rate == 40.0
    assert (seen.in_flight, seen.generators) == (8, 2)
    assert (seen.client_cpu, seen.client_lag_ms) == (0.9, 7.0)


def test_a_seat_that_fell_silent_is_no_longer_counted():
    live = level()
    told(live, 0, *(tick(second) for second in range(10)))
    told(live, 1, *(tick(second) for second in range(3)))
    seen = live.snapshot(11.0)
    assert (seen.generators, seen.in_flight, seen.sent_rate) == (1, 4, 10.0)
    assert seen.sent == 130


def test_between_levels_there_is_nothing_to_see():
    live = level()
    told(live, 0, tick(0))
    assert live.snapshot(1.5 + WINDOW_S - 0.1) is not None
    assert live.snapshot(1.5 + WINDOW_S) is None


def test_the_next_level_begins_anew_and_late_words_of_the_last_one_are_dropped():
    live = level()
    told(live, 0, *(tick(second) for second in range(4)))
    told(live, 0, tick(0, number=1, sent=3))
    told(live, 1, tick(4, number=0))
    seen = live.snapshot(2.0)
    assert (seen.level_index, seen.sent, seen.elapsed_s, seen.generators) == (1, 3, 1.0, 1)


def test_a_second_that_is_told_twice_counts_once():
    live = level()
    told(live, 0, tick(0), tick(0), tick(1), tick(0))
    assert live.snapshot(3.0).sent == 20


@pytest.mark.parametrize(("open_loop", "offered"), [(True, 100.0), (False, 0.0)])
def test_what_the_cap_holds_back_was_offered(open_loop, offered):
    """100 are due each second, 60 are sent."""
    live = level(open_loop=open_loop)
    told(live, 0, *(tick(second, sent=60, queued=40 * (second + 1)) for second in range(12)))
    seen = live.snapshot(13.0)
    assert (seen.offered_rate, seen.sent_rate, seen.queued) == (offered, 60.0, 480)


def test_what_is_held_back_counts_from_the_first_second_on():
    live = level(open_loop=True)
    told(live, 0, *(tick(second, sent=60, queued=40 * (second + 1)) for second in range(3)))
    assert live.snapshot(4.0).offered_rate == 100.0


def test_the_good_share_needs_an_objective_and_successes():
    for has_objective, ok, share in ((True, 10, 0.4), (True, 0, None), (False, 10, None)):
        live = level(has_objective=has_objective)
        told(live, 0, tick(0, ok=ok, good=4 if ok else 0))
        assert live.snapshot(2.0).good_share == share


def test_percentiles_are_those_that_one_generator_would_have_seen():
    rng = random.Random(7)
    values = [rng.lognormvariate(-2, 0.7) for _ in range(4000)]
    live = level()
    for seat in range(4):
        for second in range(WINDOW_S):
            mine = values[seat::4][second::WINDOW_S]
            told(live, seat, tick(second, sketches=Sketches(ttft=sketch(*mine), chunk_gap=sketch(9.0))))
    seen = live.snapshot(6.0).latencies
    assert set(seen) == {"ttft"}
    for shown, q in ((seen["ttft"].p50_ms, 0.5), (seen["ttft"].p90_ms, 0.9), (seen["ttft"].p99_ms, 0.99)):
        exact = 1000 * sorted(values)[round(q * (len(values) - 1))]
        assert math.isclose(shown, exact, rel_tol=2 * RELATIVE_ERROR)


def test_percentiles_forget_what_is_older_than_the_window():
    live = level()
    told(live, 0, *(tick(second, sketches=Sketches(e2e=sketch(60.0))) for second in range(3)))
    told(live, 0, *(tick(second, sketches=Sketches(e2e=sketch(0.001))) for second in range(3, 9)))
    assert live.snapshot(10.0).latencies["e2e"].p99_ms == pytest.approx(1.0, rel=0.02)


def test_whoever_comes_late_counts_everything_and_shows_the_last_seconds():
    live = level()
    for second in range(1000):
        sketches = Sketches(itl=sketch(9.0 if second < 900 else 0.01))
        live.add(SeatTick(0, tick(second, sketches=sketches)), second + 1.0, 1000.5)
    seen = live.snapshot(1000.5)
    assert seen.sent == 10_000
    assert isinstance(seen.latencies["itl"], LatencyQuantiles)
    assert seen.latencies["itl"].p99_ms == pytest.approx(10.0, rel=0.02)


@given(st.integers(0, 999), st.integers(0, 2**31), st.binary(max_size=40), st.binary(max_size=40))
def test_a_second_survives_the_event_stream_less_its_chunk_gaps(seat, second, ttft, gap):
    sent = tick(second, errors={"http_429": 3}, sketches=Sketches(ttft=ttft, chunk_gap=gap))
    back = decode_seat_tick(encode_seat_tick(seat, sent))
    assert (back.seat, back.tick.second, back.tick.errors) == (seat, second, {"http_429": 3})
    assert back.tick.sketches == Sketches(ttft=ttft)
    assert sent.sketches.chunk_gap == gap


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x80", b"\x93\x01\x02\x03"])
def test_what_is_no_second_is_refused(data):
    with pytest.raises(ValueError, match=r".+"):
        decode_seat_tick(data)


def test_an_event_of_a_busy_second_stays_small():
    rng = random.Random(3)
    spread = sketch(*(rng.lognormvariate(-3, 0.5) for _ in range(20_000)))
    sketches = Sketches(ttft=spread, itl=spread, chunk_gap=spread, e2e=spread, send_lag=spread)
    assert len(encode_seat_tick(3, tick(5, sketches=sketches))) < 4096
