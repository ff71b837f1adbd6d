import numpy as np
import pytest
from tests.kit.load_levels import Server, closed, inputs, open_loop, records

from evalmesh.domain.load_test import LoadLevel, Stage
from evalmesh.load.measure.figures import build_level
from evalmesh.load.measure.inputs import GeneratorHealth
from evalmesh.load.measure.records import Flag
from evalmesh.load.measure.steady import drift, startup

FAST = Server(slots=10_000, ttft_s=0.05, token_s=0.01, low=64, high=64)
LATENCY_S = 0.05 + 63 * 0.01


def poisson(rate: float, duration_s: float, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * duration_s * 2 + 50)))
    return due[due < duration_s]


class TestClosedLoop:
    @pytest.mark.parametrize(("parallel", "number"), [(1, 40), (32, 320), (64, 2000), (256, 2048)])
    def test_rates_are_those_of_full_slots(self, parallel: int, number: int) -> None:
        """Every slot does one request per latency, whatever part of the level is ramp-up or emptying."""
        told = build_level(inputs(closed(FAST, parallel, number), LoadLevel(parallel=parallel, number=number)))
        assert told["window"]["rule"] == "closed_loop"
        assert told["request_rate"] == pytest.approx(parallel / LATENCY_S, rel=0.02)
        assert told["output_token_rate"] == pytest.approx(64 * parallel / LATENCY_S, rel=0.02)
        assert told["total_token_rate"] == pytest.approx((64 + 128) * parallel / LATENCY_S, rel=0.02)

    def test_the_long_requests_of_the_end_do_not_slow_the_rate(self) -> None:
        """The whole level's mean is a fifth lower here: two slow requests are alone for a while at its end."""
        table = closed(Server(slots=100, low=10, high=60), 32, 400)
        table["last_s"][-2:] += 5.0
        table["end_s"] = table["last_s"]
        told = build_level(inputs(table, LoadLevel(parallel=32, number=400)))
        whole = 400 / float(table["end_s"].max())
        mean_s = float((table["end_s"] - table["due_s"])[:-2].mean())
        assert told["request_rate"] == pytest.approx(32 / mean_s, rel=0.05)
        assert whole < 0.8 * told["request_rate"]
        assert told["e2e_ms"]["max"] > 5000  # and yet their own latency counts

    def test_too_small_a_level_is_described_whole(self) -> None:
        told = build_level(inputs(closed(FAST, 8, 12), LoadLevel(parallel=8, number=12)))
        assert told["window"]["rule"] == "whole"
        assert told["window"]["steady"] is None
        assert told["window"]["requests"] == 12
        assert told["request_rate"] == pytest.approx(12 / (2 * LATENCY_S))
        assert any("whole level" in note for note in told["notes"])

    def test_fewer_requests_than_slots(self) -> None:
        told = build_level(inputs(closed(FAST, 8, 5), LoadLevel(parallel=8, number=5)))
        assert told["window"]["rule"] == "whole"
        assert "Fewer requests than slots" in told["window"]["note"]

    def test_warm_up_is_in_no_figure(self) -> None:
        table = closed(FAST, 10, 500)
        table["flags"][:100] = Flag.WARMUP
        table["first_s"][:100] += 0.5
        told = build_level(inputs(table, LoadLevel(parallel=10, number=400), planned=400))
        assert told["planned"] == told["requests"] == 400
        assert told["warmup"] == {"requests": 100, "ok": 100, "errors": {}}
        assert told["ttft_ms"]["max"] == pytest.approx(50)
        assert told["window"]["start_s"] == pytest.approx(float(table["due_s"][100]))

    def test_conversations_that_are_left_over_do_not_count_as_full_slots(self) -> None:
        table = closed(FAST, 10, 200)
        table["turn"][160:] = 1
        told = build_level(inputs(table, LoadLevel(parallel=10, number=200)))
        assert told["window"]["end_s"] == pytest.approx(float(table["due_s"][159]))

    def test_a_lost_generators_slots_are_not_waited_for(self) -> None:
        table = closed(FAST, 5, 300)
        health = (GeneratorHealth(0, cap=5), GeneratorHealth(1, cap=300, lost=True))
        told = build_level(inputs(table, LoadLevel(parallel=305), generators=health))
        assert told["window"]["rule"] == "closed_loop"


class TestOpenLoop:
    def test_a_server_that_keeps_up_shows_the_rate_that_was_asked(self) -> None:
        due = np.arange(1000) / 50.0
        told = build_level(inputs(open_loop(FAST, due), LoadLevel(rate=50, number=1000), arrival="constant"))
        assert told["window"]["rule"] == "open_loop"
        assert told["window"]["end_s"] == pytest.approx(20.0)
        assert told["offered_rate"] == pytest.approx(50)
        assert told["request_rate"] == pytest.approx(50, rel=0.002)
        assert told["output_token_rate"] == pytest.approx(50 * 64, rel=0.01)
        assert told["window"]["steady"] is True

    def test_a_short_level_is_not_told_too_low(self) -> None:
        """Two seconds of schedule and a latency of 0.7 s: without the shift a third would be missing."""
        due = np.arange(100) / 50.0
        told = build_level(inputs(open_loop(FAST, due), LoadLevel(rate=50, number=100), arrival="constant"))
        assert told["request_rate"] == pytest.approx(50, rel=0.02)

    def test_an_overloaded_server_shows_its_capacity_and_no_steady_state(self) -> None:
        server = Server(slots=32)
        mean_s = 0.1 + 31 * 0.01
        told = build_level(inputs(open_loop(server, poisson(120, 20)), LoadLevel(rate=120, duration_s=20)))
        assert told["offered_rate"] == pytest.approx(120, rel=0.1)
        assert told["request_rate"] == pytest.approx(32 / mean_s, rel=0.03)
        assert told["window"]["steady"] is False
        assert told["window"]["drift"] > 0.5
        assert "grew by" in told["window"]["note"]

    def test_stages_are_described_whole(self) -> None:
        level = LoadLevel(stages=(Stage(5, 10, 40), Stage(5, 40, 40)))
        told = build_level(inputs(open_loop(FAST, poisson(30, 10)), level, arrival="poisson"))
        assert told["window"]["rule"] == "stages"
        assert told["label"] == "stages 10-40, 40-40"
        assert told["ttft_due_ms"] is not None


class TestSteadiness:
    def test_a_start_up_is_cut_off(self) -> None:
        rng = np.random.default_rng(2)
        values = 0.1 + 0.01 * rng.standard_normal(2000)
        values[:120] += np.linspace(0.3, 0.0, 120)
        assert 80 <= startup(values) <= 160

    @pytest.mark.parametrize("seed", range(20))
    def test_nothing_is_cut_off_what_is_steady(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        assert startup(rng.lognormal(0, 0.8, 2000)) == 0

    def test_a_server_that_freezes_again_and_again_has_no_start_up(self) -> None:
        """The first freeze is at the very beginning. It is as much a part of the server as the later ones."""
        at = np.arange(0, 30, 0.01)
        values = 0.1 + np.clip(1.0 - at % 5, 0, None)
        assert startup(values) == 0
        told = build_level(
            inputs(records([(t, t + v, t + v, 1) for t, v in zip(at, values, strict=True)]), LoadLevel(rate=100))
        )
        assert told["window"]["requests"] == len(at)
        assert told["ttft_ms"]["p95"] > 700

    @pytest.mark.parametrize("seed", range(10))
    def test_noise_is_no_drift(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        assert drift(rng.lognormal(0, 0.5, 1000)) is None

    def test_growth_is_told_with_its_size(self) -> None:
        rng = np.random.default_rng(2)
        values = np.linspace(1.0, 2.0, 1000) + 0.1 * rng.standard_normal(1000)
        assert drift(values) == pytest.approx(1 / 1.5, rel=0.15)
        assert drift(values[::-1].copy()) == pytest.approx(-1 / 1.5, rel=0.15)

    def test_a_drift_too_small_to_matter_is_none(self) -> None:
        assert drift(np.linspace(1.0, 1.05, 1000)) is None
