import copy
from typing import Any

import numpy as np
import pytest
from tests.kit.load_levels import Server, closed, inputs

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.compare import compare
from evalmesh.load.measure.figures import build_level
from evalmesh.load.objective.slo import parse_slo

SLO = parse_slo("ttft:p95:200ms")


def perf(ttft_s: float, parallels: tuple[int, ...] = (8, 16), repeats: int = 1, seed: int = 1) -> dict[str, Any]:
    levels = []
    for repeat in range(repeats):
        for parallel in parallels:
            table = closed(Server(slots=100, ttft_s=ttft_s), parallel, 600, seed=seed + 10 * repeat)
            noise = np.random.default_rng(seed + parallel + 100 * repeat).normal(0, 0.004, 600)
            table["first_s"] += noise
            given = inputs(table, LoadLevel(parallel=parallel, number=600), index=len(levels), repeat=repeat, slo=SLO)
            levels.append(build_level(given))
    return {
        "schema_version": 1,
        "evalmesh_version": "0.1.0",
        "load_test": {"id": f"l-{ttft_s}", "display_name": "", "create_time": "2026-01-01T00:00:00.000Z"},
        "target": {"url": "http://127.0.0.1/v1", "model": "m", "api": "chat", "stream": True},
        "spec": {"prompts": {"dataset": "random", "file_name": "a.json"}, "arrival": {"kind": "closed"}, "seed": 42},
        "levels": levels,
    }


def verdicts(told: dict[str, Any], label: str) -> dict[str, str]:
    (level,) = [one for one in told["levels"] if one["label"] == label]
    return {metric["metric"]: metric["verdict"] for metric in level["metrics"]}


def metric_of(told: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in told["levels"][0]["metrics"] if one["metric"] == name]
    return found


def test_a_slower_first_token_is_worse_and_nothing_else_is() -> None:
    told = compare(perf(0.10), perf(0.12))
    found = verdicts(told, "parallel 8")
    assert found["ttft_ms.p50"] == "worse"
    assert found["tpot_ms.p50"] == found["error_rate"] == "no difference"
    assert verdicts(compare(perf(0.12), perf(0.10)), "parallel 16")["ttft_ms.p50"] == "better"
    median = metric_of(told, "ttft_ms.p50")
    assert median["difference"] == pytest.approx(20, abs=1)
    assert median["ratio"] == pytest.approx(1.2, abs=0.01)
    assert median["difference_ci95"][0] < 20 < median["difference_ci95"][1]
    assert median["ratio_ci95"][0] < 1.2 < median["ratio_ci95"][1]
    assert median["unit"] == "ms"
    assert median["p_value"] < 0.001


def test_figures_that_are_not_headlines_are_told_and_not_judged() -> None:
    told = compare(perf(0.10), perf(0.12))
    p90 = metric_of(told, "ttft_ms.p90")
    assert p90["ratio_ci95"][0] > 1.1
    assert p90["verdict"] is p90["p_value"] is None


def test_a_document_against_itself_shows_nothing() -> None:
    one = perf(0.1)
    told = compare(one, one)
    assert set(verdicts(told, "parallel 8").values()) <= {"no difference", "undecided", None}
    assert {metric["difference"] for level in told["levels"] for metric in level["metrics"]} == {0.0}


def test_more_failures_are_worse_from_none_at_all() -> None:
    a, b = perf(0.1, (8,)), perf(0.1, (8,))
    b["levels"][0]["error_rate"] = 0.05
    b["levels"][0]["rates_ci95"]["error_rate"] = [0.03, 0.08]
    change = metric_of(compare(a, b), "error_rate")
    assert change["verdict"] == "worse"
    assert change["ratio"] is None
    assert 0 < change["difference_ci95"][0] < 0.05 < change["difference_ci95"][1]


@pytest.mark.parametrize(("effective", "counts"), [(2.0, (60, 20)), (None, (60, 0)), (2.0, (48, 12))])
def test_a_breakdown_is_worse_however_few_answers_are_left(effective: float | None, counts: tuple[int, int]) -> None:
    a, b = perf(0.1, (8,)), perf(0.1, (8,))
    (level,) = b["levels"]
    level["window"] |= {"ok": counts[1], "errors": {"http_429": counts[0]}, "effective_requests": effective}
    level["error_rate"] = counts[0] / sum(counts)
    level["rates_ci95"]["error_rate"] = [level["error_rate"] - 0.2, 1.0]
    assert metric_of(compare(a, b), "error_rate")["verdict"] == "worse"
    assert metric_of(compare(b, a), "error_rate")["verdict"] == "better"


def test_documents_of_earlier_versions_are_judged_as_well() -> None:
    a, b = perf(0.1, (8,)), perf(0.12, (8,))
    for one in (a, b):
        del one["levels"][0]["window"]["effective_requests"]
    assert verdicts(compare(a, b), "parallel 8")["ttft_ms.p50"] == "worse"


def test_levels_without_a_partner_are_named() -> None:
    told = compare(perf(0.1, (8, 16)), perf(0.1, (16, 32)))
    assert [level["label"] for level in told["levels"]] == ["parallel 16"]
    assert (told["only_in_a"], told["only_in_b"]) == (["parallel 8"], ["parallel 32"])
    told = compare(perf(0.1, (8,)), perf(0.1, (16,)))
    assert any("nothing can be compared" in warning for warning in told["warnings"])


def test_repeats_are_compared_over_repeats() -> None:
    told = compare(perf(0.1, (8,), repeats=4), perf(0.13, (8,), repeats=3, seed=50))
    (level,) = told["levels"]
    assert (len(level["a"]), len(level["b"])) == (4, 3)
    assert verdicts(told, "parallel 8")["ttft_ms.p99"] == "worse"


def test_what_makes_a_comparison_doubtful_is_told() -> None:
    a, b = perf(0.1, (8,)), perf(0.1, (8,))
    assert compare(a, b)["warnings"] == []
    b = copy.deepcopy(b)
    b["target"]["model"] = "other"
    b["spec"]["prompts"] = {"dataset": "openqa", "file_name": "a.json"}
    b["levels"][0]["client_limited"] = True
    b["levels"][0]["window"]["steady"] = False
    told = compare(a, b)["warnings"]
    assert any("target.model differs: m and other" in one for one in told)
    assert any("prompts differ" in one for one in told)
    assert any("B was limited by its client at parallel 8" in one for one in told)
    assert any("B reached no steady state" in one for one in told)


def test_a_file_of_another_name_is_the_same_prompt() -> None:
    a, b = perf(0.1, (8,)), perf(0.1, (8,))
    b["spec"] = {**b["spec"], "prompts": {"dataset": "random", "file_name": "b.json"}}
    assert compare(a, b)["warnings"] == []


def test_other_schemas_are_refused() -> None:
    a = perf(0.1, (8,))
    with pytest.raises(InvalidInput, match="schema versions 1 and 2"):
        compare(a, a | {"schema_version": 2})
