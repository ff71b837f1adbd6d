import json
import re
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from tests.kit import load_levels
from tests.unit.report.page import Page
from tests.unit.report.perf_builders import (
    CREATED,
    make_failures,
    make_generator,
    make_goodput,
    make_lengths,
    make_level,
    make_limited,
    make_server,
    make_slo,
    make_summary,
    make_term,
    make_test,
    make_turns,
)

from evalmesh.domain.load_test import LoadLevel, LoadTarget, SearchSpec, SloTerm
from evalmesh.domain.state import State
from evalmesh.load.measure.figures import build_level
from evalmesh.pages.load_tests.charts import short
from evalmesh.pages.load_tests.page import render_perf_html
from evalmesh.report_aggregator.load_tests.perf_json import build_perf, encode_perf


def rendered(*levels, test=None):
    return render_perf_html(build_perf(test or make_test(), levels, CREATED + 99))


def page_of(*levels, test=None):
    return Page(rendered(*levels, test=test))


def banners(page):
    return [p["class"].split()[-1] for p in page.all("p") if "banner" in p.get("class", "")]


def sweep():
    return [make_level(n, parallel, ttft=50.0 + parallel) for n, parallel in enumerate((1, 4, 16, 64))]


def everything():
    """A level with every part that a level may have."""
    slo = make_slo(make_term(), make_term("error_rate", "", 0.0, 0.006), make_term("request_rate", "", 5.0, 11.0))
    level = make_level(3, rate=12.0, slo=slo, goodput=make_goodput(11.0, 0.9), server=make_server(), turns=make_turns())
    level["lengths"] = make_lengths()
    return make_failures(level, http_429=12, truncated=1)


def test_the_table_has_figures_intervals_and_counts_of_each_level():
    level = make_failures(make_level(0, 8, n=1000), http_500=20)
    page = page_of(level, make_level(1, 64))
    for expected in ("parallel 8", "980", "20", "2%", "11.76", "11.5 to 12", "752.9", "TTFT p99", "101", "ITL p50"):
        assert expected in page.shown, expected


def test_the_page_needs_no_network_and_admits_one_script():
    html = rendered(everything(), *sweep())
    page = Page(html)
    assert not page.all("link")
    assert not page.all("img")
    assert list(page.all("script")) == [{}]
    assert not re.search(r"url\(|@import|src=", html)
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_charts_and_tables_can_be_read_by_a_screen_reader():
    page = page_of(*sweep(), make_level(4, server=make_server(), turns=make_turns()))
    assert len(page.ids) == len(set(page.ids))
    charts = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(charts) > 40
    assert all(part in page.ids for svg in charts for part in svg["aria-labelledby"].split())
    # What is no chart is a key of a legend, whose name stands beside it.
    assert all(svg.get("aria-hidden") == "true" for svg in page.all("svg") if svg.get("role") != "img")
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert links
    assert set(links) <= set(page.ids)


def test_a_clean_load_test_has_no_banner():
    assert banners(page_of(make_level())) == []


def test_a_level_that_is_never_best_is_not_on_the_line_of_the_best():
    good, better = make_level(0, 1), make_level(1, 8)
    broken = make_failures(make_level(2, 64), http_429=60_000)
    html = rendered(good, better, broken)
    assert "; never best: " in html
    lines = re.findall(r"best trade-off: [^;]*", html)
    assert lines
    assert not any(short(broken["output_token_rate"]) in line for line in lines)
    assert all(short(better["output_token_rate"]) in line for line in lines)


def test_a_limited_client_is_said_in_red_before_any_number():
    reason = "The busiest engine used 97% of a core."
    page = page_of(make_level(0, 1), make_limited(make_level(1, 256), reason))
    assert banners(page) == ["bad"]
    text = "The figures of parallel 256 describe the load generator, not the server."
    headline = f"Not to be used: the client was the bottleneck. {text}"
    assert page.shown.index(f"{headline} {reason}") < page.shown.index("Results by level")
    assert "limited by the client" in page.shown
    assert [c for c in page.all("circle") if c.get("class") == "ring"], "its points are ringed"


def test_a_lost_generator_is_named_and_its_requests_are_counted():
    generators = [make_generator(0), make_generator(1, lost=True, error="Not heard for 10 s.")]
    page = page_of(make_level(lost=1000, generators=generators))
    assert banners(page) == ["bad"]
    assert "A generator was lost. 1,000 requests of parallel 8 are unaccounted for" in page.shown
    assert "Lost: seat 1." in page.shown
    assert "Not heard for 10 s." in page.shown


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (State.FAILED, "bad", "This load test failed."),
        (State.CANCELLED, "warn", "This load test was cancelled."),
        (State.RUNNING, "warn", "This load test is not finished."),
    ],
)
def test_a_load_test_that_did_not_succeed_says_so(state, level, words):
    page = page_of(make_level(), test=make_test(state, error="Out of luck."))
    assert banners(page) == [level]
    assert words in page.shown
    assert "Out of luck." in page.shown


def test_failures_are_counted_by_class_with_examples():
    page = page_of(make_failures(make_level(0, n=1000), http_429=30, reset=2))
    assert banners(page) == ["warn"]
    assert "32 of 1,000 requests failed (3.2%)." in page.shown
    for expected in ("http_429", "the server said: http_429", "reset", "12.5 ms"):
        assert expected in page.shown
    assert banners(page_of(make_failures(make_level(0, n=1000), connect=900))) == ["bad"]


def test_what_was_cancelled_at_the_end_is_no_failure_of_the_server():
    level = make_failures(make_level(0, n=1000), cancelled=8) | {"cancelled": 8}
    page = page_of(level)
    assert banners(page) == []
    assert "8 cancelled at the end" in page.shown


def test_a_window_without_steady_state_is_told():
    level = make_level()
    level["window"] |= {"steady": False, "note": "Latency was still growing."}
    page = page_of(level)
    assert banners(page) == ["warn"]
    assert "Latency was still growing." in page.shown


def test_open_loop_shows_latencies_from_schedule_and_from_send():
    frozen = {"ttft_due_ms": make_summary(480.0), "e2e_due_ms": make_summary(1230.0)}
    page = page_of(make_level(0, rate=10.0, **frozen), make_level(1, rate=20.0, **frozen))
    assert "in open loop from the scheduled time" in page.shown
    for expected in ("480", "send: 50", "offered: 10", "p99 from schedule", "p99 from send", "TTFT from schedule"):
        assert expected in page.shown, expected
    assert "from schedule" not in page_of(make_level(), make_level(1, 16)).shown.partition("What the words mean")[0]


def test_objectives_have_their_terms_values_and_verdicts():
    missed = make_slo(make_term(value=812.0, source="ttft_due_ms.p99"))
    open_ = make_slo(make_term(value=495.0, decision="undecided"))
    levels = [
        make_level(0, rate=5.0, slo=make_slo(make_term()), goodput=make_goodput(5.0, 1.0)),
        make_level(1, rate=10.0, slo=open_, goodput=make_goodput(9.0, 0.9)),
        make_level(2, rate=20.0, slo=missed, goodput=make_goodput(4.0, 0.2)),
    ]
    page = page_of(*levels)
    for expected in (
        "met",
        "missed",
        "undecided",
        "ttft_due_ms.p99",
        "812",
        "500 ms",
        "Goodput/s",
        "Used of each limit",
    ):
        assert expected in page.shown, expected


def test_terms_stand_beside_the_level_they_are_of():
    """Also where a level before it has no figures."""
    levels = [make_level(n, parallel, slo=make_slo(make_term(value=float(n)))) for n, parallel in ((1, 4), (2, 16))]
    shown = page_of(*levels).shown.partition("Service level objective")[2]
    assert re.search(r"parallel 4 ttft_ms.p99 500 ms 1 .*parallel 16 ttft_ms.p99 500 ms 2 ", shown)


def test_a_search_shows_its_answer_and_its_evidence():
    def probe(index, rate, value):
        slo = make_slo(make_term(value=value))
        return make_level(index, rate=rate, role="probe", level_duration_s=20.0, slo=slo)

    probes = [probe(0, 1.0, 100.0), probe(1, 2.0, 200.0), probe(2, 4.0, 900.0), probe(3, 2.828, 450.0)]
    found = page_of(*probes, test=make_test(spec={"search": SearchSpec("rate", resolution=0.5)}))
    assert banners(found) == ["info"]
    assert "Highest load that meets the objective: 2.828 requests/s." in found.shown
    assert "Probes of the search" in found.shown
    broken_off = page_of(*probes[:2], test=make_test(State.CANCELLED, spec={"search": SearchSpec("rate")}))
    assert "The search did not finish. Highest load known to meet the objective: 2 requests/s." in broken_off.shown
    none = page_of(probe(0, 1.0, 900.0), probe(1, 1.0, 900.0), test=make_test(spec={"search": SearchSpec("rate")}))
    assert "No load that was tried meets the objective." in none.shown
    limited = [make_limited(probe(index, 1.0, 900.0)) for index in (0, 1)]
    unknown = page_of(*limited, test=make_test(spec={"search": SearchSpec("rate")}))
    assert "Highest load known to meet the objective: none." in unknown.shown
    assert "is not known: the load generator was the bottleneck there" in unknown.shown
    assert "Decided by intervals" not in unknown.shown


def test_what_the_server_says_stands_beside_what_was_measured():
    page = page_of(make_level(server=make_server()))
    for expected in ("Kv cache usage", "KV cache usage"):
        assert (expected in page.shown) is expected.startswith("KV")
    for expected in ("GPU 1", "tokens per joule", "3.21", "connection refused"):
        assert expected in page.shown, expected


def test_conversations_are_told_by_turn():
    page = page_of(make_level(turns=make_turns()))
    assert "By turn of the conversation" in page.shown
    assert "turn 2" in page.shown


def test_levels_without_tokens_have_no_columns_and_charts_of_tokens():
    page = page_of(*(make_level(n, parallel, ttft=None, itl=20.0) for n, parallel in enumerate((1, 8))))
    before = page.shown.partition("What the words mean")[0]
    assert "TTFT" not in before
    assert "Time to last token (E2E)" in before
    assert "Tokens in/s" in before


def test_a_speed_benchmark_has_a_row_and_a_chart_point_per_length():
    rows = make_lengths()
    rows[1]["input_tokens"]["mean"] = 6150.0
    server = make_server()
    server["summary"]["gpu_memory_bytes_max"] = 61.2e9
    page = page_of(make_level(0, 1, lengths=rows, server=server))
    assert "By prompt length" in page.shown
    for expected in ("30,720", "server: 6,150", "48.69", "Prefill/s", "GPU memory of the server: at most 61.2 GB"):
        assert expected in page.shown, expected
    assert "parallel 1, 6,144 tokens: 663.6 ms, mean" in page.shown
    assert "By prompt length" not in page_of(make_level(0, 1)).shown


def test_lengths_of_several_levels_are_told_apart_and_embeddings_have_none_of_output():
    page = page_of(*(make_level(n, 2**n, lengths=make_lengths()) for n in range(9)))
    assert "The first 8 levels are drawn" in page.shown
    rows = [row | {"output_token_rate_per_request": None} for row in make_lengths()]
    page = page_of(make_level(0, 1, ttft=None, lengths=rows))
    assert "Prefill/s" in page.shown
    assert "Tokens/s each" not in page.shown


def test_repeats_have_a_table_of_means():
    page = page_of(*(make_level(n, repeat=n) for n in range(3)))
    assert "parallel 8 (repeat 3)" in page.shown
    assert "Means over repeats" in page.shown


def test_a_load_test_without_levels_renders():
    page = page_of(test=make_test(State.FAILED, error="No generator took a seat."))
    assert "No level has figures." in page.shown
    assert "Run it again" in page.shown


def test_a_level_in_which_nothing_succeeded_renders():
    nothing = {f"{name}_ms": make_summary() for name in ("ttft", "itl", "chunk_gap", "tpot", "e2e", "first_byte")}
    rates = dict.fromkeys(("request_rate", "output_token_rate", "input_token_rate", "total_token_rate"))
    level = make_failures(make_level(0, **nothing, **rates), connect=2000)
    level |= {"distributions": {"probabilities": [0.0, 1.0], "values": {}}, "rates_ci95": {}}
    empty = {name: [] for name in level["timeline"]} | {"step_s": 1.0}
    page = page_of(level, level | {"index": 1, "label": "parallel 9", "parallel": 9, "timeline": empty})
    assert "4,000 of 4,000 requests failed (100%)." in page.shown


def test_text_from_users_and_servers_is_never_markup():
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    level = make_failures(everything(), reset=3) | {"label": evil, "notes": [evil]}
    level["error_examples"][0] |= {"class": evil, "message": evil}
    level["errors"] |= {evil: 3}
    level["generators"][0] |= {"host": evil, "error": evil}
    level["server"]["series"][0] |= {"name": evil, "label": evil, "unit": evil}
    level["server"]["sources"][0] |= {"url": evil, "error": evil, "kind": evil}
    level["turns"][0]["name"] = evil
    level["slo"]["terms"][0] |= {"metric": evil, "source": evil, "unit": evil}
    level["client"]["reasons"] = [evil]
    test = make_test(
        State.FAILED,
        error=evil,
        display_name=evil,
        target=LoadTarget("http://h/" + evil, evil, headers={evil: evil}),
        body={evil: evil},
    )
    page = page_of(level, make_level(1, 2), test=test)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_no_number_on_the_page_is_nan():
    level = make_level(server=make_server())
    level["timeline"]["ttft_p50_ms"] = [None] * 20
    level["timeline"]["itl_p50_ms"][3:9] = [None] * 6
    html = rendered(level, make_level(1, 1, n=1, seconds=1)).partition("<script>")[0]
    assert not re.findall(r"\bnan\b|\binf\b", html, re.IGNORECASE)


def test_levels_as_they_are_computed_make_a_page_and_a_valid_document():
    """Not builders' figures but those of simulated queues: an open loop beyond its capacity, with an objective."""
    server, slo = load_levels.Server(), (SloTerm("ttft", "p95", 200.0), SloTerm("error_rate", "", 0.01))
    levels = []
    for index, rate in enumerate((40.0, 90.0)):
        records = load_levels.open_loop(server, np.arange(int(rate * 12)) / rate)
        inputs = load_levels.inputs(records, LoadLevel(rate=rate, number=len(records)), index=index, slo=slo)
        levels.append(build_level(inputs))
    document = json.loads(encode_perf(build_perf(make_test(), levels, CREATED)))
    schema = json.loads((Path(__file__).parents[3] / "docs" / "perf.schema.json").read_text())
    Draft202012Validator(schema).validate(document)
    page = Page(render_perf_html(document))
    for expected in ("rate 40", "rate 90", "TTFT from schedule", "ttft_due_ms.p95", "Used of each limit"):
        assert expected in page.shown, expected
