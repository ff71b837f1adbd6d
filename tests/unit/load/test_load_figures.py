import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tests.kit.load_levels import Server, closed, inputs, open_loop, records, seconds_of

from evalmesh.domain.errors import InternalError
from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.figures import build_level
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.inputs import GeneratorHealth, LevelInputs, Second, second_of
from evalmesh.load.measure.records import NAN, Flag, Outcome
from evalmesh.load.measure.table import Records, concatenate, empty
from evalmesh.load.measure.ticks import Sketches, Tick
from evalmesh.load.objective.slo import parse_slo

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/perf.schema.json").read_text(encoding="utf-8"))
LEVEL = jsonschema.Draft202012Validator({"$ref": "#/$defs/level", "$defs": SCHEMA["$defs"]})
SLO = parse_slo("ttft:p95:200ms,itl:p99:50ms,e2e:mean:2s,error_rate:0.01,request_rate:10")


def built(of: LevelInputs) -> dict[str, Any]:
    told = build_level(of)
    LEVEL.validate(json.loads(json.dumps(told, allow_nan=False)))
    return told


def with_outcome(table: Records, first: int, last: int, outcome: Outcome, status: int = 0) -> None:
    part = table[first:last]
    part["outcome"], part["status"] = outcome, status
    if outcome in {Outcome.UNSENT, Outcome.SKIPPED}:
        for name in ("send_s", "end_s"):
            part[name] = NAN
    part["first_s"] = part["last_s"] = NAN


class TestLatencies:
    def test_percentiles_are_those_of_the_requests(self) -> None:
        rng = np.random.default_rng(4)
        at = np.arange(4000) / 100
        ttft, tokens, gap = rng.lognormal(-2, 0.5, 4000), rng.integers(2, 100, 4000), rng.lognormal(-5, 0.3, 4000)
        last = at + ttft + (tokens - 1) * gap
        table = records(list(zip(at, at + ttft, last, tokens, strict=True)))
        told = built(inputs(table, LoadLevel(rate=100, number=4000)))
        assert told["window"]["requests"] == 4000
        for name, exact in (("ttft", ttft), ("tpot", gap), ("e2e", last - at), ("e2e_due", last - at)):
            for statistic, q in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9)):
                assert told[f"{name}_ms"][statistic] == pytest.approx(np.percentile(exact, q) * 1000, rel=1e-6)
            assert told[f"{name}_ms"]["mean"] == pytest.approx(exact.mean() * 1000, rel=1e-6)
            low, high = told[f"{name}_ms"]["ci95"]["p90"]
            assert low < told[f"{name}_ms"]["p90"] < high
        grid, values = np.array(told["distributions"]["probabilities"]), told["distributions"]["values"]["ttft_ms"]
        assert len(grid) == len(values) == 200
        assert np.allclose(values, np.quantile(ttft, grid) * 1000, rtol=1e-4)

    def test_what_was_offered_is_the_schedules_also_where_answers_come_long_after_it(self) -> None:
        at = np.arange(20) / 10
        table = records(list(zip(at, at + 1, at + 9, [8] * 20, strict=True)))
        told = built(inputs(table, LoadLevel(rate=10, number=20)))
        assert told["window"]["rule"] == "whole"
        assert told["offered_rate"] == pytest.approx(10)

    def test_open_loop_tells_what_a_late_send_cost(self) -> None:
        """A cap of 10 and a server that freezes: requests wait in the client, which the send does not see."""
        due = np.arange(1000) / 100
        send = np.where((due % 5) < 1, np.floor(due / 5) * 5 + 1, due)
        table = records([(d, s + 0.05, s + 0.1, 5) for d, s in zip(due, send, strict=True)])
        table["send_s"] = send
        told = built(inputs(table, LoadLevel(rate=100, number=1000, parallel=10), arrival="constant"))
        assert told["ttft_ms"]["max"] == pytest.approx(50)
        assert told["ttft_due_ms"]["p99"] == pytest.approx(np.percentile(send - due + 0.05, 99) * 1000)
        assert told["e2e_due_ms"]["max"] == pytest.approx(1100)
        assert told["tpot_due_ms"]["max"] == pytest.approx(1100 / 5)
        assert told["queue_ms"]["max"] == pytest.approx(1000)

    def test_an_answer_in_one_piece_has_no_time_per_token(self) -> None:
        table = records([(t, t + 0.2, t + 0.2, 30) for t in np.arange(200) / 20])
        table["chunks"] = 1
        told = built(inputs(table, LoadLevel(rate=20), seconds=()))
        assert told["tpot_ms"]["n"] == told["itl_ms"]["n"] == 0
        assert told["ttft_ms"]["p50"] == told["e2e_ms"]["p50"] == pytest.approx(200)
        assert told["output_token_rate"] == pytest.approx(20 * 30, rel=0.02)

    def test_gaps_come_from_the_seconds_of_the_window(self) -> None:
        """A start-up is cut off, and gaps told in its seconds with it."""
        table = closed(Server(slots=100), 32, 1500)
        begun = float(table["due_s"].max()) / 5
        table["first_s"][table["due_s"] < begun] += 0.2
        seconds = list(seconds_of(table))
        slow = Histogram()
        slow.add(0.5, 1000)
        early = Second(0, 0, histograms={"itl": slow, "chunk_gap": slow})
        told = built(inputs(table, LoadLevel(parallel=32), seconds=(early, *seconds[1:])))
        assert told["window"]["start_s"] >= 1.0
        assert told["itl_ms"]["max"] == pytest.approx(10)
        assert told["itl_ms"]["n"] > 30_000
        assert told["timeline"]["itl_p50_ms"][0] == pytest.approx(500, rel=0.005)

    def test_where_all_requests_count_all_their_gaps_do(self) -> None:
        """An answer's gaps are told when it ends: the last ones after the window's end, and as often the slow ones."""
        table = closed(Server(slots=100), 32, 600)
        seconds = seconds_of(table)
        told = built(inputs(table, LoadLevel(parallel=32), seconds=seconds))
        assert told["window"]["end_s"] < float(table["end_s"].max())
        assert told["itl_ms"]["n"] == sum(second.histograms["itl"].n for second in seconds)

    def test_gap_percentiles_equal_those_of_one_histogram(self) -> None:
        rng = np.random.default_rng(8)
        whole, seconds = Histogram(), []
        for second in range(30):
            for generator in (0, 1):
                one = Histogram()
                one.add_all(rng.lognormal(-4.5, 0.6, 400))
                whole.merge(one)
                seconds.append(Second(second, generator, histograms={"itl": one}))
        table = records([(t, t + 0.1, t + 0.2, 5) for t in np.arange(3000) / 100])
        told = built(inputs(table, LoadLevel(rate=100), seconds=tuple(seconds), arrival="constant"))["itl_ms"]
        assert told["n"] == whole.n == 24_000
        assert told["mean"] == pytest.approx(whole.mean * 1000)
        for statistic, q in (("p25", 0.25), ("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)):
            assert told[statistic] == pytest.approx(whole.quantile(q) * 1000)
        assert told["ci95"]["p99"][0] < told["p99"] < told["ci95"]["p99"][1]
        assert told["ci95"]["mean"][0] < told["mean"] < told["ci95"]["mean"][1]

    def test_turns_are_told_apart(self) -> None:
        table = closed(Server(slots=100), 10, 600)
        table["turn"] = np.arange(600) % 3
        table["first_s"][table["turn"] > 0] -= 0.05
        told = built(inputs(table, LoadLevel(parallel=10)))["turns"]
        assert [one["name"] for one in told] == ["first", "later", "turn 1", "turn 2", "turn 3"]
        assert [round(one["ttft_ms"]["p50"]) for one in told] == [100, 50, 100, 50, 50]
        assert told[1]["requests"] == told[3]["requests"] + told[4]["requests"]


SPEEDS = (1, 6144, 14336, 30720)


def of_lengths(*lengths: int, seconds_per_token: float = 1e-4) -> Records:
    """One after another; TTFT grows with the prompt; 11 tokens of 10 ms."""
    rows, at = [], 0.0
    for length in lengths:
        first = at + 0.1 + seconds_per_token * length
        rows.append((at, first, first + 0.1, 11))
        at = first + 0.1
    table = records(rows)
    table["prepared_tokens"] = table["input_tokens"] = lengths
    return table


class TestLengths:
    def test_a_speed_benchmark_has_a_row_per_length(self) -> None:
        table = of_lengths(*(length for length in SPEEDS for _ in range(2)))
        table["input_tokens"] += 3  # the server's own count
        with_outcome(table, 7, 8, Outcome.HTTP, 500)
        told = built(inputs(table, LoadLevel(parallel=1, number=8), planned=8))["lengths"]
        assert [(one["prepared_tokens"], one["requests"], one["ok"]) for one in told] == [
            (1, 2, 2), (6144, 2, 2), (14336, 2, 2), (30720, 2, 1),
        ]  # fmt: skip
        row = told[1]
        assert row["input_tokens"]["mean"] == 6147
        assert row["output_tokens"]["total"] == 22
        assert row["ttft_ms"]["mean"] == pytest.approx(714.4)
        assert row["tpot_ms"]["p50"] == pytest.approx(10)
        assert row["e2e_ms"]["max"] == pytest.approx(814.4)
        assert row["output_token_rate_per_request"] == pytest.approx(11 / 0.8144)
        assert row["prefill_token_rate"] == pytest.approx(6147 / 0.7144)

    def test_rates_are_means_over_requests(self) -> None:
        table = of_lengths(10, 10, 1000, 1000)
        table["last_s"][1] += 0.8
        told = built(inputs(table, LoadLevel(parallel=1)))["lengths"]
        assert told[0]["output_token_rate_per_request"] == pytest.approx((11 / 0.201 + 11 / 1.001) / 2)

    def test_an_answer_in_one_piece_has_no_prefill(self) -> None:
        table = of_lengths(10, 10, 1000, 1000)
        table["chunks"], table["first_s"] = 1, table["last_s"]
        told = built(inputs(table, LoadLevel(parallel=1), seconds=()))["lengths"]
        assert [one["prefill_token_rate"] for one in told] == [None, None]
        assert told[0]["output_token_rate_per_request"] == pytest.approx(11 / 0.201)
        table["output_tokens"] = 0  # embeddings: all of it is prefill
        told = built(inputs(table, LoadLevel(parallel=1), seconds=()))["lengths"]
        assert told[0]["output_token_rate_per_request"] is None
        assert told[0]["prefill_token_rate"] == pytest.approx(10 / 0.201)

    def test_a_length_of_which_nothing_succeeded_has_a_row(self) -> None:
        table = of_lengths(10, 10, 1000, 1000)
        with_outcome(table, 2, 4, Outcome.HTTP, 400)
        told = built(inputs(table, LoadLevel(parallel=1)))["lengths"][1]
        assert (told["requests"], told["ok"], told["prefill_token_rate"]) == (2, 0, None)
        assert told["output_token_rate_per_request"] is None

    def test_a_level_that_was_cut_off_keeps_its_table(self) -> None:
        assert len(built(inputs(of_lengths(1, 1, 6144, 6144, 14336), LoadLevel(parallel=1)))["lengths"]) == 3

    @pytest.mark.parametrize(
        "lengths",
        [
            (128,) * 6,
            (0, 0, 500, 500),
            (500, 500, 503, 503, 510, 510),
            (10, 10, 1000, 2000),
            tuple(100 * n for n in range(1, 14)) * 2,
        ],
        ids=["one", "unknown", "nearly one", "mostly single", "many"],
    )
    def test_other_lengths_are_no_table(self, lengths: tuple[int, ...]) -> None:
        assert built(inputs(of_lengths(*lengths), LoadLevel(parallel=1)))["lengths"] == []

    def test_conversations_are_told_by_turn(self) -> None:
        table = of_lengths(10, 1000, 10, 1000)
        table["turn"] = (0, 1, 0, 1)
        told = built(inputs(table, LoadLevel(parallel=1)))
        assert told["lengths"] == []
        assert told["turns"]


class TestCounts:
    def test_every_planned_request_is_somewhere(self) -> None:
        table = closed(Server(slots=100), 10, 400)
        with_outcome(table, 10, 20, Outcome.HTTP, 429)
        with_outcome(table, 20, 25, Outcome.TRUNCATED, 200)
        with_outcome(table, 390, 394, Outcome.CANCELLED)
        with_outcome(table, 394, 398, Outcome.UNSENT)
        with_outcome(table, 398, 400, Outcome.SKIPPED)
        told = built(inputs(table, LoadLevel(parallel=10), planned=400, error_messages={"http_429": "slow down"}))
        assert told["errors"] == {"http_429": 10, "truncated": 5, "cancelled": 4}
        assert (told["ok"], told["sent"], told["requests"]) == (375, 394, 394)
        assert (told["unsent"], told["skipped"], told["lost"], told["cancelled"]) == (4, 2, 0, 4)
        assert told["error_rate"] == pytest.approx(15 / 390, abs=0.002)  # what the client gave up is no failure
        first = told["error_examples"][0]
        assert (first["class"], first["count"], first["message"]) == ("http_429", 10, "slow down")
        assert [one["index"] for one in first["examples"]] == [10, 11, 12, 13, 14]

    def test_counts_that_do_not_add_up_are_a_defect(self) -> None:
        table = closed(Server(slots=100), 10, 100)
        with pytest.raises(InternalError, match="120 planned, 100 sent"):
            build_level(inputs(table, LoadLevel(parallel=10, number=120), planned=120))
        with pytest.raises(InternalError, match="90 planned, 100 sent"):
            build_level(inputs(table, LoadLevel(parallel=10, number=90), planned=90))

    def test_what_time_did_not_allow_is_unsent(self) -> None:
        table = closed(Server(slots=100), 10, 100)
        told = built(inputs(table, LoadLevel(parallel=10, number=120, duration_s=3), planned=120))
        assert (told["planned"], told["sent"], told["unsent"]) == (120, 100, 20)
        assert told["notes"][0] == "100 of 120 requests were sent: then the 3 s of the level were over."

    def test_a_schedule_that_time_cut_off_is_no_loss(self) -> None:
        """Open loop plans what is due within the time; what was asked for is no part of the plan."""
        table = open_loop(Server(slots=100), np.arange(60) / 20)
        level = LoadLevel(rate=20, number=1000, duration_s=3)
        told = built(inputs(table, level, arrival="constant", planned=60))
        assert (told["planned"], told["sent"], told["unsent"], told["number"]) == (60, 60, 0, 1000)
        assert told["notes"][0] == "60 of 1,000 requests were sent: then the 3 s of the level were over."

    def test_nothing_is_said_of_time_where_the_number_was_reached_or_something_else_ended_it(self) -> None:
        table = closed(Server(slots=100), 10, 100)

        def notes(number: int, **other: Any) -> str:
            level = LoadLevel(parallel=10, number=number, duration_s=30)
            return " ".join(built(inputs(table, level, planned=number, **other))["notes"])

        assert "were over" not in notes(100)
        assert "were over" not in notes(120, state="cancelled")
        assert "were over" not in notes(120, generators=(GeneratorHealth(0, cap=10, error="no more prompts"),))
        table["turn"] = 1
        assert "were over" not in notes(120)

    def test_a_lost_generators_requests_are_lost(self) -> None:
        table = closed(Server(slots=100), 10, 300)
        health = (GeneratorHealth(0, cap=5), GeneratorHealth(1, host="b", cap=5, lost=True))
        mine = table[np.arange(300) % 2 == 0]
        told = built(inputs(mine, LoadLevel(parallel=10, number=300), planned=300, generators=health))
        assert (told["lost"], told["sent"]) == (150, 150)
        assert told["generators"][1]["lost"] is True
        assert any("Generator 1 on b was lost" in note for note in told["notes"])
        said = (*seconds_of(mine), Second(0, 1, sent=70), Second(1, 1, sent=20))
        told = built(inputs(mine, LoadLevel(parallel=10, duration_s=5), generators=health, seconds=said))
        assert (told["lost"], told["planned"]) == (90, 240)

    @pytest.mark.parametrize("outcome", [Outcome.CONNECT, Outcome.UNSENT])
    def test_a_level_without_any_success_has_a_document(self, outcome: Outcome) -> None:
        table = closed(Server(), 4, 50)
        with_outcome(table, 0, 50, outcome)
        told = built(inputs(table, LoadLevel(parallel=4, number=50), planned=50, slo=SLO, seconds=()))
        assert told["ok"] == 0
        assert told["ttft_ms"]["p99"] is None
        assert told["slo"]["met"] is (None if outcome is Outcome.UNSENT else False)
        assert told["client_limited"] is False

    def test_a_level_in_which_nothing_happened_has_a_document(self) -> None:
        told = built(inputs(empty(), LoadLevel(rate=5), state="cancelled", slo=SLO))
        assert (told["planned"], told["wall_s"], told["request_rate"]) == (0, 0.0, None)
        assert told["timeline"]["t_s"] == []


class TestMerging:
    def test_two_generators_tell_what_one_would_have(self) -> None:
        table = open_loop(Server(slots=100), np.arange(2000) / 50)
        one = built(inputs(table, LoadLevel(rate=50), arrival="constant", slo=SLO))
        mine, other = table[::2].copy(), table[1::2].copy()
        other["generator"] = 1
        health = (GeneratorHealth(0, cpu=0.1), GeneratorHealth(1, cpu=0.2))
        seconds = (*seconds_of(mine), *seconds_of(other, generator=1))
        two = built(
            inputs(
                concatenate([mine, other]), LoadLevel(rate=50), arrival="constant", slo=SLO, generators=health,
                seconds=seconds,
            )
        )  # fmt: skip
        for name in (
            "ttft_ms",
            "ttft_due_ms",
            "tpot_ms",
            "e2e_ms",
            "window",
            "request_rate",
            "goodput",
            "offered_rate",
        ):
            assert two[name] == one[name]
        assert two["itl_ms"]["p99"] == one["itl_ms"]["p99"]
        assert [generator["requests"] for generator in two["generators"]] == [1000, 1000]

    def test_the_order_of_records_does_not_matter(self) -> None:
        table = closed(Server(), 40, 1000)
        mixed = table[np.random.default_rng(1).permutation(1000)]
        of = inputs(table, LoadLevel(parallel=40))
        assert built(replace(of, records=mixed))["ttft_ms"] == built(of)["ttft_ms"]


class TestTimeline:
    def test_counts_are_the_generators_own(self) -> None:
        table = closed(Server(slots=100), 16, 500)
        told = built(inputs(table, LoadLevel(parallel=16)))["timeline"]
        from_records = built(inputs(table, LoadLevel(parallel=16), seconds=()))["timeline"]
        assert told["step_s"] == 1
        assert told["sent"] == from_records["sent"]
        assert told["ok"] == from_records["ok"]
        assert sum(told["ok"]) == 500
        assert from_records["in_flight"][2] == 16
        assert told["offered"] == [None] * len(told["t_s"])
        assert told["ttft_p50_ms"][1] == pytest.approx(100, abs=0.01)

    def test_long_levels_have_coarser_steps(self) -> None:
        table = records([(t, t + 0.1, t + 0.3, 4) for t in np.arange(0, 4000, 0.5)])
        seconds = tuple(Second(s, 0, sent=2, in_flight=1, cpu=0.5) for s in range(4000))
        told = built(inputs(table, LoadLevel(rate=2), seconds=seconds))["timeline"]
        assert told["step_s"] == 7
        assert len(told["t_s"]) <= 600
        assert told["sent"][0] == 14
        assert told["offered"][0] == 14
        assert told["cpu"][0] == 0.5

    def test_a_tick_is_read_as_it_was_sent(self) -> None:
        gaps = Histogram()
        gaps.add(0.02, 5)
        tick = Tick(
            number=0, second=3, sent=4, ok=2, errors={"reset": 1, "http_500": 2}, in_flight=7, queued=1,
            input_tokens=10,
            output_tokens=20, good=2, sketches=Sketches(itl=gaps.encode()), cpu=0.4, loop_lag_ms=0.3,
        )  # fmt: skip
        second = second_of(1, tick)
        assert (second.second, second.generator, second.errors, second.in_flight) == (3, 1, 3, 7)
        assert second.histograms["itl"].n == 5
        assert "chunk_gap" not in second.histograms


class TestTokens:
    def test_who_counted_them_is_told(self) -> None:
        table = closed(Server(), 8, 200)
        assert built(inputs(table, LoadLevel(parallel=8)))["token_source"] == "usage"
        table["flags"][100:] = Flag.MISMATCH
        table["input_tokens"][50] = 0
        told = built(inputs(table, LoadLevel(parallel=8)))
        assert told["token_source"] == "mixed"
        assert told["token_mismatches"] == 100
        assert told["input_tokens"]["n"] == told["ok"] - 1
        assert told["input_token_rate"] is None  # one unknown prompt makes the sum unknown
        table["output_tokens"] = table["input_tokens"] = 0
        told = built(inputs(table, LoadLevel(parallel=8)))
        assert (told["token_source"], told["output_token_rate"]) == ("none", None)
