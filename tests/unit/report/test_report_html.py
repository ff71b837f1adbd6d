import re
from dataclasses import replace

import pytest
from tests.unit.report.builders import make_benchmark, make_errored, make_many_subsets, make_metric, make_plan, make_run
from tests.unit.report.page import Page

from evalmesh.cli.eval.show import note_lines
from evalmesh.domain.metric import ErroredSample, LimitWarning, Metric, SubsetReport
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunState
from evalmesh.pages.runs.page import render_html


def test_the_headline_has_value_error_interval_and_denominators(build):
    metric = make_metric(value=0.85, n=100, errored=2, unscored=1)
    page = Page(render_html(build(make_benchmark(metrics=(metric,)))))
    for expected in ("gsm8k", "acc", "0.8500", "± 0.0357", "0.7800 to 0.9200", "100", "3 requests have no score."):
        assert expected in page.shown


def test_the_page_needs_no_network_and_admits_one_script(build):
    html = render_html(build(make_benchmark(), make_many_subsets()))
    page = Page(html)
    assert not page.all("link")
    assert not page.all("img")
    assert list(page.all("script")) == [{}]
    assert not re.search(r"url\(|@import|src=", html)
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_charts_and_tables_can_be_read_by_a_screen_reader(build):
    page = Page(render_html(build(make_many_subsets())))
    assert len(page.ids) == len(set(page.ids))
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"])
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"


def test_every_subset_has_a_bar_with_whiskers(build):
    report = build(make_many_subsets(count=57))
    page = Page(render_html(report))
    assert len([rect for rect in page.all("rect") if rect["class"] == "bar"]) == 57 + 4
    assert len([line for line in page.all("line") if line["class"] == "whisker"]) == 57 + 4
    for subset in report["benchmarks"][0]["subsets"]:
        assert subset["name"] in page.shown


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RunState.CANCELLED, "This run was cancelled."),
        (RunState.FAILED, "This run failed."),
        (RunState.RUNNING, "This run is not finished."),
    ],
)
def test_a_run_that_did_not_succeed_says_so_before_any_number(build, state, words):
    page = Page(render_html(build(make_benchmark(n_not_run=1219), run=make_run(state, error="Out of luck."))))
    assert page.shown.index(words) < page.shown.index("0.8500")
    assert "Out of luck." in page.shown
    assert "1,219 planned requests were not run." in page.shown


def test_a_clean_run_has_no_banner(build):
    page = Page(render_html(build(make_benchmark())))
    assert not [p for p in page.all("p") if "banner" in p.get("class", "")]


def test_answers_that_are_missing_are_said_before_any_number_in_red_where_they_decide_it(build):
    outcomes = {"answered": 9, "cut": 90, "empty": 1}
    warning = LimitWarning(91, 0.91, (0.1, 1.0), "91% of the answers <b>were</b> cut")
    page = render_html(build(make_benchmark(outcomes=outcomes, warning=warning), make_benchmark("arc")))
    assert 'class="banner bad" role="alert"><strong>gsm8k: no answer found 91 (cut at max_tokens 90, empty 1).' in page
    assert "91% of the answers &lt;b&gt;were&lt;/b&gt; cut" in page
    assert page.count('class="banner') == 1
    page = render_html(build(make_benchmark(outcomes=outcomes)))
    assert 'class="banner warn"><strong>gsm8k: no answer found 91' in page


def test_simulated_models_and_missing_benchmarks_are_announced(build):
    wanted = (BenchmarkSpec("gsm8k"), BenchmarkSpec("arc"))
    run = make_run(spec={"labels": {"simulated": "true"}, "benchmarks": wanted})
    page = Page(render_html(build(make_benchmark(), run=run)))
    assert "This model is simulated." in page.shown
    assert "Benchmarks without any result: arc" in page.shown


def test_errored_samples_are_listed_with_their_reasons(build):
    metric = make_metric(n=88, errored=12)
    report = build(make_benchmark(metrics=(metric,), errored_samples=make_errored(9), error_classes={"server": 12}))
    page = Page(render_html(report))
    assert "main/8" in page.shown
    assert "HTTP 500 after 6 tries" in page.shown
    assert "server: 12" in page.shown
    assert "The first 9 of 12" in page.shown


def test_text_from_users_and_models_is_never_markup(build):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    report = build(
        make_benchmark(
            evil,
            primary_metric=evil,
            metrics=(make_metric(evil, errored=1),),
            subsets=tuple(SubsetReport(evil + str(n), (make_metric(evil),), evil) for n in range(3)),
            categories=tuple(SubsetReport(evil + str(n), (make_metric(evil),)) for n in range(2)),
            errored_samples=(ErroredSample(evil, 0, "errored", evil),),
            error_classes={evil: 1},
            usage={evil: 1.0},
        ),
        run=make_run(
            RunState.FAILED,
            error=evil,
            spec={
                "model": ModelSpec(name=evil, display_name=evil, url=evil, key_ref="env:" + evil),
                "benchmarks": (BenchmarkSpec(evil, extra={evil: evil}),),
                "display_name": evil,
                "labels": {evil: evil},
            },
        ),
    )
    page = Page(render_html(report))
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_values_beyond_one_get_a_scale_of_their_own(build):
    metric = Metric("perplexity", 14.2, 0.6, (13.1, 15.4), 100, 0, 0)
    page = Page(render_html(build(make_benchmark(primary_metric="perplexity", metrics=(metric,)))))
    assert "14.20" in page.shown
    assert "20.00" in page.shown


def test_a_benchmark_without_any_score_and_a_report_without_benchmarks_render(build):
    page = Page(
        render_html(build(make_benchmark(metrics=(make_metric(value=None),)), make_benchmark("arc", metrics=())))
    )
    assert "no score" in page.shown
    empty = Page(render_html(build(run=make_run(RunState.FAILED), plan=make_plan("gsm8k"))))
    assert "No benchmark has a result." in empty.shown


def test_a_run_that_came_through_the_api_says_how_its_spec_is_taken_again(build):
    page = Page(render_html(build(make_benchmark())))
    assert "client.create_run(client.get_run('r-20260225-abc').spec)" in page.code
    compile(page.code, "page", "exec")
    assert "run.yaml" not in page.shown


def test_what_was_guessed_of_own_files_is_told(build):
    note = "exam.csv is read as gb18030 <script>"
    report = build(make_benchmark(notes=(note,)))
    assert report["benchmarks"][0]["notes"] == [note]
    page = Page(render_html(report))
    assert f"Note: {note}." in page.shown
    assert note_lines(report) == [f"{report['benchmarks'][0]['name']}: {note}"]
    assert note_lines(build(make_benchmark())) == []


def test_the_head_says_whose_run_of_which_model_on_which_data(build):
    own = make_benchmark("general_mcq")
    plan = replace(make_plan("general_mcq")[0], spec=BenchmarkSpec("general_mcq", local_path="/data/capitals.csv"))
    run = make_run(spec={"display_name": "nightly", "labels": {"team": "evals"}, "benchmarks": (plan.spec,)})
    document = build(own, run=run, plan=(plan,))
    document["benchmarks"][0]["title"] = "General multiple choice"
    shown = Page(render_html(document)).shown
    head = shown.partition("Results")[0]
    for part in ("nightly", "org/qwen-plus", "team: evals", "General multiple choice: capitals.csv"):
        assert part in head
    assert "/data/capitals.csv" in shown


def test_a_chart_counts_samples_and_not_their_repeats(build):
    metric = replace(make_metric(n=180), n_samples=60)
    shown = Page(render_html(build(make_benchmark(metrics=(metric,), n_samples=60, repeats=3)))).shown
    assert "n = 60" in shown
    assert "n = 180" not in shown


def test_subsets_are_in_the_order_of_people(build):
    subsets = tuple(SubsetReport(f"part {n}", (make_metric(value=0.5, n=50),)) for n in (1, 10, 11, 2, 20, 3))
    shown = Page(render_html(build(make_benchmark(subsets=subsets)))).shown
    for where in (shown.partition("acc by subset")[2], shown.partition("All numbers by subset")[2]):
        order = [where.index(f"part {n} ") for n in (1, 2, 3, 10, 11, 20)]
        assert order == sorted(order)


def test_results_files_are_linked(build):
    page = Page(render_html(build(make_benchmark(), make_benchmark("arc"))))
    assert {a["href"] for a in page.all("a")} >= {"results/gsm8k.parquet", "results/arc.parquet"}
