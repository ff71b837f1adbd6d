import json
import math
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from tests.unit.report.perf_builders import (
    CREATED,
    make_failures,
    make_goodput,
    make_level,
    make_limited,
    make_server,
    make_slo,
    make_term,
    make_test,
    make_turns,
)

from evalmesh.domain.load_test import LevelStatus, LoadLevel, LoadTarget, SearchSpec
from evalmesh.domain.state import State
from evalmesh.load.measure.best import best, left_out
from evalmesh.report_aggregator.load_tests.perf_json import build_perf, encode_perf

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "perf.schema.json").read_text())


def written(*levels, test=None):
    """The document as a reader finds it, valid under the published schema."""
    document = build_perf(test or make_test(), levels, CREATED + 99)
    found = json.loads(encode_perf(document))
    Draft202012Validator(SCHEMA).validate(found)
    return found


def test_levels_stand_in_the_document_as_they_were_written():
    levels = [make_level(0, 1), make_level(1, 8, server=make_server(), turns=make_turns()), make_level(2, rate=5.0)]
    assert written(*levels)["levels"] == json.loads(json.dumps(levels))


def test_every_kind_of_level_is_valid():
    slo = make_slo(make_term(), make_term("error_rate", "", 0.01, None))
    levels = [
        make_level(0, ttft=None),
        make_failures(make_limited(make_level(1)), http_429=12, reset=1),
        make_level(2, n=1, slo=slo, goodput=make_goodput(3.0, 0.4)),
    ]
    found = written(*levels)
    assert found["client_limited"]
    assert found["search"] is None


def test_a_load_test_without_levels_is_a_document_too():
    found = written(test=make_test(State.FAILED, error="No generator came.", error_reason="NO_GENERATORS"))
    assert found["load_test"]["error"] == "No generator came."
    assert found["best"] == {"throughput": None, "goodput": None, "latency": None}


def test_levels_that_have_no_figures_are_named():
    statuses = (
        LevelStatus(0, LoadLevel(parallel=1), state="done"),
        LevelStatus(1, LoadLevel(parallel=8), state="cancelled", note="No generator held a seat."),
    )
    found = written(make_level(0), test=make_test(State.CANCELLED, levels=statuses))
    assert found["notes"] == ["Level 1 has no figures; it is cancelled. No generator held a seat."]


def test_the_best_levels_are_found():
    slow = make_level(0, 1, goodput=make_goodput(1.4, 1.0))
    fast = make_level(1, 32, ttft=90.0, goodput=make_goodput(20.0, 0.5))
    found = best([slow, fast])
    assert [found[name]["index"] for name in ("throughput", "goodput", "latency")] == [1, 1, 0]
    assert found["throughput"] == {
        "index": 1,
        "label": "parallel 32",
        "metric": "output_token_rate",
        "value": fast["output_token_rate"],
        "tied": [],
    }


def test_levels_that_the_client_limited_or_without_success_are_not_the_best():
    sound, limited = make_level(0, 1), make_limited(make_level(1, 64))
    dead = make_level(2, 128, ok=0)
    faster = make_level(3, 2)
    assert best([sound, limited, dead, faster])["throughput"]["index"] == 3
    assert best([sound, limited, dead]) == {"throughput": None, "goodput": None, "latency": None}, "there is no choice"


def test_a_level_whose_requests_failed_is_never_the_best():
    calm, fast, flooded = make_level(0, 2), make_level(1, 4), make_failures(make_level(2, 8, n=80), http_429=76)
    found = best([calm, fast, flooded])
    assert found["throughput"]["label"] == "parallel 4"
    assert left_out([calm, fast, flooded]) == ["parallel 8: 95.0% of its requests failed"]
    allowed = make_slo(make_term("error_rate", "", 0.96, 0.95))
    assert best([calm, fast, flooded | {"slo": allowed}])["throughput"]["label"] == "parallel 8"


def test_what_lies_within_the_intervals_is_as_good():
    one, two, three = make_level(0, 4), make_level(1, 16, ttft=50.1), make_level(2, 64, ttft=300.0)
    for level, p99 in ((one, 900.0), (two, 800.0)):
        level["e2e_ms"] = level["e2e_ms"] | {"p99": p99}
    found = best([one, two, three])["latency"]
    assert (found["label"], found["tied"]) == ("parallel 16", ["parallel 4"]), "of those alike the lower p99 is named"
    wide = three | {"rates_ci95": three["rates_ci95"] | {"output_token_rate": [0.0, 1e6]}}
    found = best([one, two, wide])["throughput"]
    assert (found["label"], found["tied"]) == ("parallel 4", ["parallel 16", "parallel 64"]), "the lowest load does it"


def test_without_tokens_the_request_rate_decides():
    found = best([make_level(0, 1, ttft=None, itl=20.0), make_level(1, 4, ttft=None, itl=20.0)])
    assert (found["throughput"]["metric"], found["throughput"]["index"]) == ("request_rate", 1)


def probe(index, rate, value):
    slo = make_slo(make_term(value=value, source="ttft_due_ms.p99"))
    return make_level(index, rate=rate, role="probe", level_duration_s=20.0, slo=slo)


def test_the_answer_of_a_search_follows_from_its_probes():
    test = make_test(spec={"search": SearchSpec("rate", resolution=0.5)})
    probes = [probe(0, 1.0, 100.0), probe(1, 2.0, 200.0), probe(2, 4.0, 900.0), probe(3, 2.828, 450.0)]
    search = written(*probes, test=test)["search"]
    assert (search["state"], search["answer"], search["bracket"]) == ("found", 2.828, [2.828, 4.0])
    assert [(step["value"], step["passed"]) for step in search["evidence"]] == [
        (1.0, True),
        (2.0, True),
        (4.0, False),
        (2.828, True),
    ]


def test_a_search_that_was_broken_off_tells_what_is_known():
    test = make_test(State.CANCELLED, spec={"search": SearchSpec("rate")})
    search = written(probe(0, 1.0, 100.0), test=test)["search"]
    assert (search["state"], search["answer"]) == ("unfinished", 1.0)
    assert "ended before" in search["stop_rule"]
    assert written(test=test)["search"]["answer"] is None


def test_repeats_of_a_level_get_means_and_intervals():
    rates = [10.0, 11.0, 12.0]
    levels = [make_level(n, repeat=n, request_rate=rate) for n, rate in enumerate(rates)]
    (group,) = written(*levels, make_level(3, 64))["repeats"]
    assert (group["label"], group["levels"]) == ("parallel 8", [0, 1, 2])
    rate = group["metrics"]["request_rate"]
    assert (rate["n"], rate["mean"], rate["values"]) == (3, 11.0, rates)
    # Student's t with two degrees of freedom: 4.303 standard errors.
    half = 4.3027 / math.sqrt(3)
    assert rate["ci95"] == pytest.approx([11 - half, 11 + half], rel=1e-4)
    assert "ttft_due_ms.p99" not in group["metrics"], "closed loop has no scheduled times"


def test_no_key_gets_into_the_document():
    target = LoadTarget(
        "http://user:hunter2@127.0.0.1:8000/v1/chat/completions?api_key=hunter2#hunter2",
        "m",
        key_ref="hunter2",
        headers={"X-Custom": "hunter2", "Authorization": "Bearer hunter2"},
    )
    test = make_test(target=target, body={"api_key": "hunter2"}, server_metrics=("http://u:hunter2@h/metrics",))
    text = encode_perf(build_perf(test, [make_level()], CREATED)).decode()
    assert "hunter2" not in text
    assert json.loads(text)["target"]["url"] == "http://127.0.0.1:8000/v1/chat/completions"


def test_the_text_has_one_level_per_line_and_one_field_per_line():
    text = encode_perf(build_perf(make_test(), [make_level(0), make_level(1)], CREATED)).decode()
    lines = text.splitlines()
    assert sum(line.startswith('    {"schema_version":1') for line in lines) == 2
    assert '  "schema_version": 1,' in lines
    assert text.endswith("}\n")
