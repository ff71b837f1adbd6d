import io
import json

import pytest
from tests.unit.report.builders import make_benchmark, make_metric, make_run

from evalmesh.cli.eval.layout_export import export_evalscope_layout, prompt_turns, safe_name
from evalmesh.domain.completion import Completion, CompletionError, Timing, Usage
from evalmesh.domain.metric import SubsetReport
from evalmesh.domain.request import Message
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.results.table import ResultsWriter, read_results


def rows_of(benchmark="iquiz", subsets=("IQ", "EQ"), repeats=1, error=None, reasoning=None):
    """Two samples per subset; with an error the second of each has none."""
    sink = io.BytesIO()
    with ResultsWriter(sink, run="r-1", benchmark=benchmark, score_names=["acc"]) as writer:
        for subset in subsets:
            for index in range(2):
                sample = Sample(f"{subset}/{index}", index, subset, "Q?", ("A",), metadata={"level": "1"})
                digests = tuple("d" * repeats)
                failure = error if index else None
                completions = [
                    Completion(
                        sample.id,
                        repeat,
                        "d",
                        text="" if failure else "It is A.",
                        reasoning=reasoning,
                        finish_reason="length",
                        usage=Usage(48, 14),
                        timing=Timing(0.0, 0.9, 0.25),
                        error=failure,
                    )
                    for repeat in range(repeats)
                ]
                scores = [
                    Score(sample.id, repeat, "errored", reason="boom")
                    if failure
                    else Score(sample.id, repeat, "scored", {"acc": 1.0}, answer="A")
                    for repeat in range(repeats)
                ]
                messages = (Message("system", "Be brief."), Message("user", "Q?"))
                writer.add([PlannedSample(sample, "chat", digests, messages=messages)], completions, scores)
    return read_results(sink.getvalue())


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_are_laid_out_by_model_benchmark_and_subset(build, tmp_path):
    written = export_evalscope_layout(rows_of(), build(make_benchmark("iquiz")), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "predictions/qwen-plus/iquiz_IQ.jsonl",
        "reviews/qwen-plus/iquiz_IQ.jsonl",
        "predictions/qwen-plus/iquiz_EQ.jsonl",
        "reviews/qwen-plus/iquiz_EQ.jsonl",
        "reports/qwen-plus/iquiz.json",
    ]
    assert all(path.is_file() for path in written)


def test_a_script_that_averages_reviews_gets_the_score(build, tmp_path):
    export_evalscope_layout(rows_of(), build(make_benchmark("iquiz")), tmp_path)
    reviews = read(tmp_path / "reviews/qwen-plus/iquiz_IQ.jsonl")
    assert [review["sample_score"]["score"]["value"]["acc"] for review in reviews] == [1.0, 1.0]
    assert [review["index"] for review in reviews] == [0, 1]
    assert reviews[0]["target"] == "A"
    assert reviews[0]["sample_score"]["score"]["extracted_prediction"] == "A"
    assert reviews[0]["sample_score"]["sample_metadata"] == {"level": "1"}


def test_predictions_hold_answer_usage_and_timing(build, tmp_path):
    export_evalscope_layout(rows_of(), build(make_benchmark("iquiz")), tmp_path)
    first = read(tmp_path / "predictions/qwen-plus/iquiz_IQ.jsonl")[0]
    output = first["model_output"]
    assert output["choices"][0]["message"]["content"] == "It is A."
    assert output["choices"][0]["stop_reason"] == "max_tokens"
    assert output["usage"]["total_tokens"] == 62
    assert output["time"] == 0.9
    assert output["perf_metrics"]["tpot"] == pytest.approx(0.05)
    assert [message["role"] for message in first["messages"]] == ["system", "user", "assistant"]


def test_thinking_is_a_part_of_its_own(build, tmp_path):
    export_evalscope_layout(rows_of(reasoning="hm"), build(make_benchmark("iquiz")), tmp_path)
    first = read(tmp_path / "predictions/qwen-plus/iquiz_IQ.jsonl")[0]
    assert first["messages"][-1]["content"] == [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "It is A."},
    ]


def test_repeats_have_indices_of_their_own_and_share_a_group(build, tmp_path):
    export_evalscope_layout(rows_of(repeats=3), build(make_benchmark("iquiz", repeats=3)), tmp_path)
    reviews = read(tmp_path / "reviews/qwen-plus/iquiz_IQ.jsonl")
    assert [review["index"] for review in reviews] == [0, 1, 2, 3, 4, 5]
    assert [review["sample_score"]["group_id"] for review in reviews] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("policy", "value"), [("exclude", {}), ("zero", {"acc": 0.0})])
def test_a_request_without_a_score_says_why_and_counts_as_in_the_report(build, tmp_path, policy, value):
    report = build(make_benchmark("iquiz"), run=make_run(spec={"on_error": policy}))
    export_evalscope_layout(rows_of(error=CompletionError("server", "boom", 500)), report, tmp_path)
    score = read(tmp_path / "reviews/qwen-plus/iquiz_IQ.jsonl")[1]["sample_score"]["score"]
    assert score["value"] == value
    assert score["explanation"] == "boom"
    output = read(tmp_path / "predictions/qwen-plus/iquiz_IQ.jsonl")[1]["model_output"]
    assert output["choices"] == []
    assert output["error"] == "server: boom"


def test_the_report_nests_metrics_categories_and_subsets(build, tmp_path):
    subsets = (
        SubsetReport("IQ", (make_metric(value=1.0, n=10),)),
        SubsetReport("EQ", (make_metric(value=0.7, n=30),)),
    )
    benchmark = make_benchmark("iquiz", metrics=(make_metric(value=0.775, n=40),), subsets=subsets)
    export_evalscope_layout(iter(()), build(benchmark), tmp_path)
    document = json.loads((tmp_path / "reports/qwen-plus/iquiz.json").read_text())
    assert document["name"] == "qwen-plus@iquiz"
    assert document["score"] == 0.775
    [metric] = document["metrics"]
    assert metric["macro_score"] == pytest.approx(0.85)
    [category] = metric["categories"]
    assert category["name"] == ["default"]
    assert category["score"] == pytest.approx(0.775)
    assert category["subsets"][1] == {"name": "EQ", "score": 0.7, "num": 30}


def test_names_cannot_leave_the_folder_or_collide(build, tmp_path):
    out = tmp_path / "out"
    report = build(make_benchmark("a"), run=make_run(spec={"model": ModelSpec(name="m", display_name="../../up")}))
    rows = [*rows_of("a", ("../../x", "b_c", "..")), *rows_of("a_b", ("c",))]
    written = export_evalscope_layout(iter(rows), report, out)
    assert len(set(written)) == 9
    for path in written:
        assert path.resolve().is_relative_to(out.resolve())
    assert list(tmp_path.iterdir()) == [out]
    assert len([line for path in written if "reviews" in path.parts for line in read(path)]) == 8


def test_safe_name_keeps_good_names_and_tells_bad_ones_apart():
    assert safe_name("qwen-plus") == "qwen-plus"
    assert safe_name("高等数学") == "高等数学"
    assert safe_name("a/b") != safe_name("a:b") != safe_name("a_b")
    assert safe_name("") != ""
    assert len(safe_name("数" * 300).encode()) < 120


def test_rows_may_come_mixed_and_a_second_export_replaces_the_first(build, tmp_path):
    rows = sorted(rows_of(), key=lambda row: row["index"])
    for _ in range(2):
        export_evalscope_layout(iter(rows), build(make_benchmark("iquiz")), tmp_path)
    assert len(read(tmp_path / "reviews/qwen-plus/iquiz_IQ.jsonl")) == 2


def test_a_text_prompt_that_looks_like_messages_is_still_text():
    assert prompt_turns('[{"role": "x"') == [("user", '[{"role": "x"')]
    assert prompt_turns("plain") == [("user", "plain")]


@pytest.mark.shared_data
def test_field_names_are_those_of_a_real_run(build, tmp_path, shared_data):
    export_evalscope_layout(rows_of(), build(make_benchmark("iquiz")), tmp_path)
    for kind in ("predictions", "reviews"):
        real = read(shared_data / f"evalscope_run/qwen-plus/{kind}/qwen-plus/iquiz_IQ.jsonl")[0]
        ours = read(tmp_path / f"{kind}/qwen-plus/iquiz_IQ.jsonl")[0]
        assert _paths(real, skip={"sample_metadata"}) - {"trajectory"} <= _paths(ours)
    real = json.loads((shared_data / "evalscope_run/qwen-plus/reports/qwen-plus/iquiz.json").read_text())
    ours = json.loads((tmp_path / "reports/qwen-plus/iquiz.json").read_text())
    assert set(real) - {"perf_metrics"} <= set(ours)


def _paths(value, prefix="", skip=frozenset()):
    """Dotted names of all fields; of a list, those of its last element."""
    if isinstance(value, list):
        return _paths(value[-1], prefix, skip) if value else set()
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, inner in value.items():
        found.add(prefix + name)
        if name not in skip | {"metadata"}:
            found |= _paths(inner, f"{prefix}{name}.", skip)
    return found


def test_media_in_a_prompt_are_named_by_their_digest():
    parts = '{"kind":"image","sha256":"ab","mime":"image/png","size_bytes":1},{"kind":"text","text":"?"}'
    prompt = f'[{{"role":"user","content":[{parts}]}}]'
    assert prompt_turns(prompt) == [("user", [{"type": "image", "image": "sha256:ab"}, {"type": "text", "text": "?"}])]
