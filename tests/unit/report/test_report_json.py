import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from tests.unit.report.builders import make_benchmark, make_errored, make_many_subsets, make_metric, make_plan, make_run

from evalmesh.domain.metric import LimitWarning, Metric
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunState

WARNING = LimitWarning(90, 0.9, (0.1, 1.0), "90% of the answers were cut")
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def schema():
    document = json.loads((DOCS / "report.schema.json").read_text())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def test_reports_of_every_kind_are_valid_under_the_schema(build, schema):
    reports = [
        build(make_benchmark()),
        build(make_benchmark(), make_many_subsets()),
        build(make_benchmark(errored_samples=make_errored(), error_classes={"server": 3})),
        build(make_benchmark(metrics=(make_metric(value=None),), n_not_run=7), run=make_run(RunState.CANCELLED)),
        build(make_benchmark(outcomes={"answered": 9, "answered_cut": 1, "cut": 90}, warning=WARNING)),
        build(run=make_run(RunState.FAILED, error="No.", start_time=None, end_time=None), plan=make_plan("gsm8k")),
    ]
    for report in reports:
        schema.validate(json.loads(json.dumps(report, allow_nan=False)))


def test_the_example_of_the_documentation_is_valid(schema):
    example = re.search(r"```json\n(.*?)```", (DOCS / "report-schema.md").read_text(), re.DOTALL)[1]
    schema.validate(json.loads(example))


def test_every_field_of_the_schema_is_explained(schema):
    explained = (DOCS / "report-schema.md").read_text()
    for name in ("run", "model", "config", "benchmark", "metric"):
        for field in schema.schema["$defs"][name]["properties"]:
            assert f"`{field}`" in explained or f'"{field}"' in explained, f"{name}.{field}"


def test_outcomes_and_warnings_are_those_of_the_benchmark(build):
    report = build(make_benchmark(outcomes={"answered": 9, "answered_cut": 1, "cut": 90}, warning=WARNING))
    assert report["benchmarks"][0]["outcomes"] == {
        "answered": 10,
        "answered_cut": 1,
        "no_answer": 90,
        "no_answer_causes": {"cut": 90},
    }
    assert [(one["kind"], one["benchmark"], one["message"]) for one in report["warnings"]] == [
        ("no_answer", "gsm8k", WARNING.message)
    ]
    assert "outcomes" not in build(make_benchmark())["benchmarks"][0]  # of before they were counted


def test_numbers_that_are_not_finite_become_null(build, schema):
    metric = Metric("acc", math.nan, math.inf, (-math.inf, 0.4), 3, 0, 0, (math.nan, 1.0))
    report = build(make_benchmark(metrics=(metric,), usage={"latency_mean_s": math.nan, "output_tokens": 2.0}))
    schema.validate(report)
    written = report["benchmarks"][0]["metrics"][0]
    assert (written["value"], written["stderr"], written["ci95"], written["bounds"]) == (None, None, None, None)
    assert report["benchmarks"][0]["usage"] == {"output_tokens": 2.0}
    json.dumps(report, allow_nan=False)


def test_no_key_reaches_the_report(build):
    model = ModelSpec(
        name="m",
        url="https://user:sk-1@host/v1?api_key=sk-2#sk-3",
        key_ref="sk-4",
        headers={"Authorization": "Bearer sk-5"},
        args={"api_key": "sk-6"},
    )
    generation = GenerationConfig(max_tokens=7, extra_body={"api_key": "sk-7", "nested": {"x-api-key": "sk-8"}})
    report = build(make_benchmark(), run=make_run(spec={"model": model, "generation": generation}))
    assert "sk-" not in json.dumps(report)
    assert report["model"]["url"] == "https://host/v1"
    assert report["config"]["generation"]["max_tokens"] == 7


def test_a_key_reference_is_kept(build):
    assert build(make_benchmark())["model"]["key_ref"] == "env:API_KEY"


def test_simulated_models_are_marked_by_label(build):
    assert build(make_benchmark())["model"]["simulated"] is False
    simulated = make_run(spec={"labels": {"simulated": "true"}})
    assert build(make_benchmark(), run=simulated)["model"]["simulated"] is True


def test_complete_means_that_nothing_is_missing(build):
    assert build(make_benchmark())["run"]["complete"] is True
    assert build(make_benchmark(n_not_run=1))["run"]["complete"] is False
    assert build(make_benchmark(), run=make_run(RunState.CANCELLED))["run"]["complete"] is False
    wanted = (BenchmarkSpec("gsm8k"), BenchmarkSpec("arc"))
    partial = build(make_benchmark(), run=make_run(spec={"benchmarks": wanted}))
    assert partial["run"]["complete"] is False
    assert partial["benchmarks_not_reported"] == ["arc"]


def test_settings_are_those_in_force_and_those_changed(build):
    report = build(make_benchmark())
    benchmark = report["benchmarks"][0]
    assert benchmark["generation"] == {"max_tokens": 512, "temperature": 0.0}
    assert benchmark["overrides"] == {"few_shot_num": 4}
    assert report["run"]["duration_s"] == 94.5
    assert report["run"]["create_time"] == "2026-02-25T06:13:20.000Z"


def test_an_override_of_zero_is_an_override(build):
    (only,) = make_plan("gsm8k")
    plan = replace(only, spec=replace(only.spec, few_shot_num=0))
    assert build(make_benchmark(), plan=(plan,))["benchmarks"][0]["overrides"] == {"few_shot_num": 0}
