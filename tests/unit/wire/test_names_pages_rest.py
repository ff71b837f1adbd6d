import base64

import pytest

from evalmesh.domain.completion import Completion, CompletionError, ContinuationScore, Timing, Usage
from evalmesh.domain.content import ToolCall
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import Message, Request
from evalmesh.domain.score import Score
from evalmesh.v1 import models_pb2, scoring_pb2
from evalmesh.wire.names import parse_name, parse_report_name, report_name
from evalmesh.wire.paging import decode_offset, decode_token, encode_token, page_size
from evalmesh.wire.runs.models import completion_from_proto, completion_to_proto, request_from_proto, request_to_proto
from evalmesh.wire.runs.reports import export_key, pieces
from evalmesh.wire.runs.scoring import (
    ScoringItem,
    item_to_proto,
    items_from_proto,
    score_from_proto,
    score_to_proto,
)


def test_names():
    assert parse_name("runs", "runs/20260101-ab") == "20260101-ab"
    assert parse_report_name(report_name("x")) == "x"


@pytest.mark.parametrize("name", ["", "x", "runs", "runs/", "run/x", "runs/a/b", "runs/..", "runs/A", "runs/a b"])
def test_other_names_are_refused(name):
    with pytest.raises(InvalidInput, match="runs/"):
        parse_name("runs", name)
    with pytest.raises(InvalidInput, match="runs/"):
        parse_report_name(f"{name}/report")


def test_page_tokens_come_back_and_belong_to_their_query():
    assert decode_token("") is None
    assert decode_token(encode_token("run-7", "a"), "a") == "run-7"
    assert decode_token(encode_token(40)) == 40
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    for token, query in ((encode_token(1, "a"), "b"), ("%%%", ""), ("AAAA", ""), (deep, "")):
        with pytest.raises(InvalidInput, match="page_token"):
            decode_token(token, query)
    for position in (-1, 2**63, "run-7"):
        with pytest.raises(InvalidInput, match="page_token"):
            decode_offset(encode_token(position))


def test_page_sizes():
    assert (page_size(0, 50, 1000), page_size(7, 50, 1000), page_size(9999, 50, 1000)) == (50, 7, 1000)
    with pytest.raises(InvalidInput, match="-1"):
        page_size(-1, 50, 1000)


def test_completions_survive_the_wire():
    answer = Completion(
        sample_id="a",
        repeat=0,
        digest="",
        text="42",
        reasoning="hm",
        finish_reason="stop",
        usage=Usage(input_tokens=0, output_tokens=3),
        timing=Timing(start_time=1.75e9, latency_s=0.25, ttft_s=0.125),
        tries=2,
    )
    error = Completion(sample_id="b", repeat=0, digest="", error=CompletionError("timeout", "too slow"))
    for completion in (answer, error):
        assert completion_from_proto(completion_to_proto(completion, completion.sample_id)) == completion


def test_requests_become_chat_or_completion():
    proto = models_pb2.ModelRequest(id="a", messages=[models_pb2.Message(role="user", content="hi")])
    request = request_from_proto(proto)
    assert request == Request("a", 0, "chat", "", messages=(Message("user", "hi"),))
    assert request_to_proto(request).id == "a#0"
    assert request_from_proto(models_pb2.ModelRequest(id="a", prompt="x")).kind == "completion"
    for wrong in (
        models_pb2.ModelRequest(prompt="x"),
        models_pb2.ModelRequest(id="a"),
        models_pb2.ModelRequest(id="a", messages=[models_pb2.Message(role="boss", content="hi")]),
    ):
        with pytest.raises(InvalidInput):
            request_from_proto(wrong)


def test_scores_survive_the_wire():
    for score in (
        Score("a", 0, "scored", {"acc": 1.0}, answer="4", extractor="boxed", explanation="equal"),
        Score("b", 0, "unscored", reason="deadline"),
    ):
        assert score_from_proto(score_to_proto(score)) == score


def test_scoring_items_need_an_id_and_a_target():
    item = scoring_pb2.ScoringItem(id="a", text="4", target=["4"])
    [(sample, completion)] = items_from_proto(scoring_pb2.ScoreCompletionsRequest(items=[item]))
    assert (sample.target, completion.text) == (("4",), "4")
    with pytest.raises(InvalidInput, match=r"items\[1\]\.target"):
        items_from_proto(scoring_pb2.ScoreCompletionsRequest(items=[item, scoring_pb2.ScoringItem(id="b", text="x")]))
    with pytest.raises(InvalidInput, match="1001"):
        items_from_proto(scoring_pb2.ScoreCompletionsRequest(items=[item] * 1001))


def test_scoring_items_hold_what_samples_and_completions_hold():
    item = ScoringItem(
        "a",
        "",
        (),
        reference={"n": 2**60, "spans": [[0, 4]]},
        tool_calls=(ToolCall("1", "add", "{}"),),
        continuations=(ContinuationScore(-1.5, 2, 5, is_greedy=True),),
        finish_reason="length",
    )
    [(sample, completion)] = items_from_proto(scoring_pb2.ScoreCompletionsRequest(items=[item_to_proto(item)]))
    assert (sample.id, sample.target, sample.reference) == ("a", (), item.reference)
    assert (completion.tool_calls, completion.continuations) == (item.tool_calls, item.continuations)
    assert completion.finish_reason == "length"
    for wrong in ({"reference_json": "{"}, {"finish_reason": "eos"}):
        proto = scoring_pb2.ScoringItem(id="a", target=["4"], **wrong)
        with pytest.raises(InvalidInput, match=rf"items\[0\]\.{next(iter(wrong))}"):
            items_from_proto(scoring_pb2.ScoreCompletionsRequest(items=[proto]))


def test_only_files_of_the_report_are_exported():
    assert export_key("r", "results/gsm8k.parquet") == "runs/r/results/gsm8k.parquet"
    assert export_key("r", "report.html") == "runs/r/report.html"
    for file in ("", "plan.json", "results/../x.parquet", "../report.json", "results/gsm8k"):
        with pytest.raises(InvalidInput, match="file"):
            export_key("r", file)


def test_pieces_fit_into_messages():
    parts = list(pieces(b"x" * (2_500_000)))
    assert [len(p) for p in parts] == [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]


def test_a_token_that_names_a_run_is_no_row_number():
    assert decode_offset("") == 0
    assert decode_offset(encode_token(7, "q"), "q") == 7
    with pytest.raises(InvalidInput, match="page_token"):
        decode_offset(encode_token("run-1", "q"), "q")
