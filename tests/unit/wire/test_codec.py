import dataclasses

import pytest

from evalmesh.domain.completion import Completion, CompletionError, ContinuationScore, Timing, Usage
from evalmesh.domain.errors import InternalError
from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.run import BenchmarkProgress, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.domain.work import Pool, PoolWish
from evalmesh.wire import codec

MODEL = ModelSpec(name="org/m", headers={"x": "y"}, args={"list": [1, 2.5, None], "deep": {"a": True}})
RUN = Run(
    id="run-1",
    spec=RunSpec(
        model=MODEL,
        benchmarks=(BenchmarkSpec(name="gsm8k", limit=0.5, subsets=("a", "b"), extra={"k": [1]}),),
        generation=GenerationConfig(temperature=0.0, stop=("\n",), extra_body={"top_a": 0.1}),
        limit=1,
        labels={"team": "é\u2028"},
    ),
    state=RunState.RUNNING,
    create_time=1.25,
    benchmarks=(BenchmarkProgress(name="gsm8k", total=3, value=0.5),),
)
ROWS = [
    PlannedSample(
        sample=Sample(id="s/1", index=1, subset="s", input='a "b"\n\u2028 c', target=("4",), metadata={"level": "1"}),
        kind="chat",
        digests=("d0", "d1"),
        messages=(Message("system", "be brief"), Message("user", "2+2? 😀")),
    ),
    Completion(
        sample_id="s/1",
        repeat=0,
        digest="d0",
        text="4\n",
        finish_reason="stop",
        continuations=(ContinuationScore(-1.5, 2, 5, is_greedy=True), ContinuationScore(0.0, 1, 3)),
        usage=Usage(input_tokens=3),
        timing=Timing(start_time=1.0, latency_s=0.5),
    ),
    Completion(sample_id="s/2", repeat=1, digest="d", error=CompletionError("server", "boom", http_status=500)),
    Score(sample_id="s/1", repeat=0, state="scored", values={"acc": 1.0}, answer="4", extractor="boxed"),
]


def test_a_run_round_trips():
    assert codec.decode_run(codec.encode_run(RUN)) == RUN


def test_a_pool_round_trips():
    wish = PoolWish(Pool(id="p", model=MODEL), "run-1")
    assert codec.decode_json(PoolWish, codec.encode_json(wish)) == wish


@pytest.mark.parametrize(("limit", "kind"), [(1, int), (0.5, float), (1.0, float), (None, type(None))])
def test_a_limit_keeps_its_kind(limit, kind):
    run = dataclasses.replace(RUN, spec=dataclasses.replace(RUN.spec, limit=limit))
    assert type(codec.decode_run(codec.encode_run(run)).spec.limit) is kind


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_rows_round_trip_one_per_line(row):
    data = codec.encode_rows([row, row])
    assert data.count(b"\n") == 2
    assert codec.decode_rows(type(row), data) == [row, row]
    assert list(codec.iter_rows(type(row), data)) == [row, row]


def test_no_rows_are_no_bytes():
    assert codec.encode_rows([]) == b""
    assert codec.decode_rows(Score, b"") == []
    assert codec.decode_rows(Score, b"\n\n") == []


def test_unknown_fields_of_a_newer_writer_are_skipped():
    data = codec.encode_json(RUN)[:-1] + b',"brand_new":1}'
    assert codec.decode_run(data) == RUN


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"id":5}', b'{"id":"x"}', b'"\xff"'])
def test_a_corrupt_record_is_named(data):
    with pytest.raises(InternalError, match=r"runs/run-1.*Run"):
        codec.decode_run(data, "runs/run-1")


def test_a_corrupt_row_is_named_with_its_line():
    data = codec.encode_rows([ROWS[3]]) + b'{"sample_id": 3}\n'
    with pytest.raises(InternalError, match=r"scores/1, line 2"):
        codec.decode_rows(Score, data, "scores/1")
