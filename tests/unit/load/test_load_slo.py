import numpy as np
import pytest
from tests.kit.load_levels import inputs, records

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadLevel, SloTerm
from evalmesh.load.measure.figures import build_level
from evalmesh.load.measure.records import Outcome
from evalmesh.load.measure.table import Records
from evalmesh.load.objective.slo import flaw_of, parse_slo, per_request


def level_of(ttft_ms: np.ndarray, rate: float = 100.0, tokens: int = 5) -> Records:
    at = np.arange(len(ttft_ms)) / rate
    first = at + ttft_ms / 1000
    return records([(t, f, f + (tokens - 1) * 0.01, tokens) for t, f in zip(at, first, strict=True)])


def judged(table: Records, slo: str, **level: float) -> dict:
    return build_level(inputs(table, LoadLevel(**(level or {"rate": 100})), slo=parse_slo(slo)))


class TestReading:
    def test_every_kind_of_term(self) -> None:
        text = "ttft:p99:500ms, itl:p99.9:50ms,e2e:mean:2s,tpot:p50:250us,error_rate:1%,request_rate:10"
        assert parse_slo(text) == (
            SloTerm("ttft", "p99", 500),
            SloTerm("itl", "p99.9", 50),
            SloTerm("e2e", "mean", 2000),
            SloTerm("tpot", "p50", 0.25),
            SloTerm("error_rate", "", 0.01),
            SloTerm("request_rate", "", 10),
        )

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "It is empty"),
            ("latency:p99:1s", "There is no metric 'latency'"),
            ("ttft:500ms", "needs a statistic and a limit, as in `ttft:p99:500ms`"),
            ("ttft:p99:500", "'500' needs a unit: `us`, `ms` or `s`"),
            ("ttft:p99:fast", "'fast' is no limit"),
            ("ttft:p99:-5ms", "'-5ms' is no limit"),
            ("ttft:p100:5ms", "'p100' is no statistic"),
            ("ttft:p10:5ms", "from `p50`"),
            ("ttft:max:5ms", "'max' is no statistic"),
            ("ttft:pxx:5ms", "'pxx' is no statistic"),
            ("ttft:p99:0ms", "must be a positive number"),
            ("error_rate:p99:0.1", "needs a limit and nothing else"),
            ("error_rate:5", "a share is at most 1"),
            ("request_rate:10ms", "has the unit 'ms'"),
            ("ttft:p99:1s,ttft:p99:2s", "twice"),
        ],
    )
    def test_what_is_wrong_is_named(self, text: str, says: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            parse_slo(text)
        assert says in caught.value.message
        assert "an objective looks like" in caught.value.message
        assert caught.value.details == {"field": "slo"}

    @pytest.mark.parametrize(
        ("term", "field"),
        [
            (SloTerm("ttft", "max", 5), "statistic"),
            (SloTerm("speed", "", 5), "metric"),
            (SloTerm("error_rate", "p99", 0.1), "statistic"),
            (SloTerm("e2e", "p50", -1), "limit"),
            (SloTerm("e2e", "p50", float("nan")), "limit"),
        ],
    )
    def test_of_terms_made_elsewhere_the_field_is_named(self, term: SloTerm, field: str) -> None:
        flaw = flaw_of(term)
        assert flaw is not None
        assert flaw[0] == field


class TestDeciding:
    def test_clear_cases_are_decided_by_the_interval(self) -> None:
        table = level_of(np.random.default_rng(1).uniform(50, 150, 2000))
        told = judged(table, "ttft:p95:200ms,error_rate:0.01,request_rate:50")["slo"]
        assert (told["decision"], told["met"]) == ("met", True)
        assert told["terms"][0]["source"] == "ttft_due_ms.p95"
        assert [term["unit"] for term in told["terms"]] == ["ms", "", "1/s"]
        told = judged(table, "ttft:p95:100ms")["slo"]
        assert (told["decision"], told["met"]) == ("missed", False)
        assert told["terms"][0]["interval"][0] > 100

    def test_a_limit_within_the_interval_is_undecided(self) -> None:
        table = level_of(np.random.default_rng(1).uniform(50, 150, 400))
        value = judged(table, "ttft:p95:1s")["ttft_due_ms"]["p95"]
        told = judged(table, f"ttft:p95:{value + 0.2}ms")["slo"]
        assert (told["decision"], told["met"]) == ("undecided", None)

    def test_too_few_requests_decide_nothing(self) -> None:
        told = judged(level_of(np.full(40, 50.0)), "ttft:p99:200ms")["slo"]
        assert (told["decision"], told["met"]) == ("undecided", None)
        assert told["terms"][0]["interval"] is None
        assert told["terms"][0]["beyond"] == {"count": 0, "n": 40, "effective": 40.0, "allowed": 0.01}

    @pytest.mark.parametrize(("requests", "decision"), [(298, "undecided"), (299, "met"), (2048, "met")])
    def test_none_beyond_the_limit_decides_from_the_rule_of_three_on(self, requests: int, decision: str) -> None:
        ttft_ms = np.random.default_rng(1).uniform(15, 22, requests)
        told = judged(level_of(ttft_ms), "ttft:p99:500ms")["slo"]
        assert (told["decision"], told["met"]) == (decision, {"met": True}.get(decision))

    def test_all_beyond_the_limit_decides_with_few_however_alike_they_are(self) -> None:
        together = 4000 + 300 * np.sin(np.arange(239) / 40)
        assert judged(level_of(together), "ttft:p90:200ms")["slo"]["decision"] == "missed"
        assert judged(level_of(np.full(3, 900.0)), "ttft:p99:200ms")["slo"]["decision"] == "missed"

    def test_growing_latencies_are_evidence_against(self) -> None:
        growing = np.linspace(210, 4000, 239) + np.random.default_rng(1).normal(0, 5, 239)
        assert judged(level_of(growing), "ttft:p90:200ms")["slo"]["decision"] == "missed"
        assert judged(level_of(growing), "ttft:p50:1s")["slo"]["decision"] == "missed"
        assert judged(level_of(growing), "ttft:mean:1s")["slo"]["decision"] == "missed"
        # Within the limit so far, and with a schedule nothing ends the growth; in closed loop the slots do.
        ttft_ms = np.linspace(20, 30, 1000) + np.random.default_rng(1).normal(0, 0.5, 1000)
        assert judged(level_of(ttft_ms), "ttft:p99:500ms")["slo"]["decision"] == "undecided"
        assert judged(level_of(ttft_ms), "ttft:p99:500ms", parallel=1)["slo"]["decision"] == "met"

    def test_gaps_count_as_often_as_there_were_requests(self) -> None:
        few, many = (level_of(np.full(n, 50.0), tokens=30) for n in (200, 400))
        assert judged(few, "itl:p99:20ms")["slo"]["decision"] == "undecided"
        told = judged(many, "itl:p99:20ms")["slo"]
        assert told["decision"] == "met"
        assert told["terms"][0]["beyond"]["n"] > 10_000
        assert told["terms"][0]["beyond"]["effective"] == 400

    def test_an_objective_without_a_bound_on_failures_allows_one_in_a_hundred(self) -> None:
        table = level_of(np.full(1000, 50.0))
        table["outcome"][:500] = Outcome.HTTP
        told = judged(table, "ttft:p99:200ms")["slo"]
        assert told["decision"] == "missed"
        assert (told["terms"][1]["metric"], told["terms"][1]["implied"]) == ("error_rate", True)
        table["outcome"][5:500] = Outcome.OK
        assert [term["metric"] for term in judged(table, "ttft:p99:200ms")["slo"]["terms"]] == ["ttft"]

    def test_no_failure_at_all_can_be_asked_for(self) -> None:
        table = level_of(np.full(50, 50.0))
        assert judged(table, "error_rate:0")["slo"]["decision"] == "met"
        table["outcome"][7] = Outcome.RESET
        assert judged(table, "error_rate:0")["slo"]["decision"] == "missed"

    def test_one_failed_term_fails_the_whole(self) -> None:
        told = judged(level_of(np.full(2000, 50.0)), "ttft:p99:200ms,e2e:mean:10ms,request_rate:1000")["slo"]
        assert [term["decision"] for term in told["terms"]] == ["met", "missed", "missed"]
        assert told["decision"] == "missed"

    def test_gaps_are_judged_from_their_histograms(self) -> None:
        table = level_of(np.full(3000, 50.0), tokens=30)
        assert judged(table, "itl:p99:20ms")["slo"]["decision"] == "met"
        assert judged(table, "itl:p99:5ms")["slo"]["decision"] == "missed"
        assert judged(table, "itl:mean:5ms")["slo"]["decision"] == "missed"

    def test_a_failure_rate_is_judged(self) -> None:
        table = level_of(np.full(2000, 50.0))
        table["outcome"][np.random.default_rng(1).random(2000) < 0.05] = Outcome.RESET
        assert judged(table, "error_rate:0.01")["slo"]["decision"] == "missed"
        assert judged(table, "error_rate:0.10")["slo"]["decision"] == "met"

    def test_without_an_objective_nothing_is_judged(self) -> None:
        told = build_level(inputs(level_of(np.full(100, 50.0)), LoadLevel(rate=100)))
        assert told["slo"] is told["goodput"] is None


class TestGoodput:
    def test_a_request_is_good_when_it_keeps_every_bound(self) -> None:
        ttft = np.where(np.arange(1000) % 10 == 0, 300.0, 100.0)
        table = level_of(ttft)
        table["outcome"][np.arange(1000) % 10 == 1] = Outcome.TRUNCATED
        table["itl_p99_s"][np.arange(1000) % 10 == 2] = 0.2
        told = judged(table, "ttft:p95:200ms,itl:p99:50ms,error_rate:0.5")["goodput"]
        assert told["share"] == pytest.approx(0.7)
        assert (told["good"], told["requests"]) == (700, 1000)
        assert told["rate"] == pytest.approx(70, rel=0.02)
        low, high = told["ci95"]["share"]
        assert low < 0.7 < high
        assert told["terms"] == [
            "succeeded",
            "TTFT at most 200 ms from the scheduled time",
            "the 99th percentile of its own token gaps at most 50 ms",
        ]

    def test_a_mean_of_gaps_bounds_each_requests_mean(self) -> None:
        table = level_of(np.full(500, 100.0))
        table["itl_p99_s"] = 0.5
        assert judged(table, "itl:mean:50ms")["goodput"]["share"] == 1.0
        assert judged(table, "itl:p50:50ms")["goodput"]["share"] == 1.0
        assert judged(table, "itl:p90:50ms")["goodput"]["share"] == 0.0

    def test_waiting_for_the_send_counts_in_open_loop(self) -> None:
        table = level_of(np.full(500, 100.0))
        table["due_s"] -= 0.2
        assert judged(table, "ttft:p95:200ms")["goodput"]["share"] == 0.0
        closed = judged(table, "ttft:p95:200ms", parallel=1)
        assert closed["goodput"]["share"] == 1.0

    def test_a_request_of_one_token_has_no_gap_to_break_a_bound(self) -> None:
        table = level_of(np.full(500, 100.0), tokens=1)
        table["itl_p99_s"] = table["itl_mean_s"] = np.nan
        assert judged(table, "itl:p99:50ms,tpot:mean:5ms")["goodput"]["share"] == 1.0

    def test_what_the_client_gave_up_is_neither_good_nor_bad(self) -> None:
        table = level_of(np.full(500, 100.0))
        table["outcome"][-100:] = Outcome.CANCELLED
        told = judged(table, "ttft:p95:200ms")["goodput"]
        assert (told["share"], told["requests"]) == (1.0, 400)

    def test_the_strictest_bound_of_a_metric_counts(self) -> None:
        assert per_request(parse_slo("ttft:p99:500ms,ttft:p50:100ms,itl:p99:9ms,itl:mean:3ms")) == {
            "ttft": 100.0,
            "itl_p99": 9.0,
            "itl_mean": 3.0,
        }
