"""Graphs of stages: what is one, what follows what, and what a shard can do next."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.plan import BenchmarkIndex, BenchmarkPlan, SubsetShards
from evalmesh.domain.progress import BenchmarkRecord, RunRecord, ShardCounts
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.stage import PLAIN, Graph, Stage, StageKind, chain
from evalmesh.domain.stage import given as already_given
from evalmesh.domain.work import Shard, Task
from evalmesh.runtime.stages import Publishing

JUDGED = Graph(
    (
        Stage("generate", StageKind.GENERATE, role="model"),
        Stage("baseline", StageKind.GENERATE, role="baseline"),
        Stage("ask", StageKind.JUDGE_ASK, ("generate", "baseline")),
        Stage("verdicts", StageKind.GENERATE, ("ask",), role="judge"),
        Stage("read", StageKind.JUDGE_READ, ("verdicts",)),
        Stage("reduce", StageKind.REDUCE, ("read",), barrier=True),
    )
)
"""Two models answer, a third judges."""
RETRIEVAL = Graph(
    (
        Stage("embed", StageKind.GENERATE, role="embedder"),
        Stage("search", StageKind.SEARCH, ("embed",), barrier=True),
        Stage("reduce", StageKind.REDUCE, ("search",), barrier=True),
    )
)


def plan_of(graph):
    pools = {role: f"pool-{role}" for role in graph.roles}
    return BenchmarkPlan("r1", "b", 1, BenchmarkSpec("b"), graph, pools, "d", GenerationConfig(), 1, 64)


def next_on(graph, *done):
    items = Publishing(plan_of(graph), 0, {}).ready(Shard(3, "main", 0, 64, 64), frozenset(done))
    return {(item.task, item.stage) for item in items}


@pytest.mark.parametrize("graph", [PLAIN, JUDGED, RETRIEVAL, already_given(PLAIN), already_given(JUDGED)])
def test_graphs_in_use_are_graphs(graph):
    graph.check()


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        ((), "end"),
        (PLAIN.stages[:2], "end"),
        ((*PLAIN.stages, Stage("more", StageKind.SCORE, ("score",))), "end"),
        ((PLAIN.stages[1], PLAIN.stages[0], PLAIN.stages[2]), "'score'"),
        ((*PLAIN.stages[:2], PLAIN.stages[1], PLAIN.stages[2]), "twice"),
        ((replace(PLAIN.stages[0], role=""), *PLAIN.stages[1:]), "role"),
        ((PLAIN.stages[0], replace(PLAIN.stages[1], role="judge"), PLAIN.stages[2]), "role"),
        ((*PLAIN.stages[:2], replace(PLAIN.stages[2], barrier=False)), "barrier"),
        ((Stage("all", StageKind.REDUCE, barrier=True),), "nothing before"),
        *(
            (
                (Stage(name, StageKind.GENERATE, role="model"), Stage("end", StageKind.REDUCE, (name,), barrier=True)),
                name,
            )
            for name in ("requests", "parts", "folded", "a.b", "A", "../x", "")
        ),
    ],
)
def test_what_is_no_graph_is_refused_by_name(stages, named):
    with pytest.raises(InvalidInput) as refused:
        Graph(tuple(stages)).check()
    assert named in refused.value.message
    assert refused.value.details["field"] == "graph"


def test_roles_and_ends_are_read_from_the_graph():
    assert (PLAIN.roles, PLAIN.answered, PLAIN.judged) == (("model",), "generate", "score")
    assert (JUDGED.roles, JUDGED.answered, JUDGED.judged) == (("model", "baseline", "judge"), "generate", "read")
    assert already_given(PLAIN).roles == ()
    assert chain(StageKind.GENERATE, StageKind.EXECUTE, StageKind.REDUCE).judged == "execute"


@pytest.mark.parametrize(
    ("graph", "done", "wanted"),
    [
        (PLAIN, (), {(Task.STAGE, "generate")}),
        (PLAIN, ("generate",), {(Task.STAGE, "score")}),
        (PLAIN, ("generate", "score"), {(Task.ARRIVE, "score")}),
        (already_given(PLAIN), (), {(Task.STAGE, "score")}),
        (JUDGED, (), {(Task.STAGE, "generate"), (Task.STAGE, "baseline")}),
        (JUDGED, ("generate",), {(Task.STAGE, "baseline")}),
        (JUDGED, ("generate", "baseline"), {(Task.STAGE, "ask")}),
        (JUDGED, ("generate", "baseline", "ask", "verdicts"), {(Task.STAGE, "read")}),
        (RETRIEVAL, ("embed",), {(Task.ARRIVE, "embed")}),
    ],
)
def test_a_shard_goes_on_where_it_is(graph, done, wanted):
    assert next_on(graph, *done) == wanted


def test_a_shard_that_is_set_aside_is_missed_at_every_barrier_behind_it():
    assert [stage.name for stage in PLAIN.before_barrier("generate")] == ["score"]
    assert [stage.name for stage in JUDGED.before_barrier("baseline")] == ["read"]
    assert [stage.name for stage in RETRIEVAL.before_barrier("embed")] == ["embed"]


# Which shards there are


@given(st.lists(st.integers(0, 300), max_size=5), st.integers(1, 70), st.integers(1, 3))
def test_an_index_tells_every_shard_from_one_line_per_subset(sizes, shard_size, repeats):
    subsets, first = [], 0
    for number, samples in enumerate(sizes):
        subsets.append(SubsetShards(f"s{number}", first, samples))
        first += -(-samples // shard_size)
    index = BenchmarkIndex(shard_size, repeats, tuple(subsets))
    shards = list(index.shards())
    assert [shard.index for shard in shards] == list(range(index.shard_count))
    assert sum(shard.samples for shard in shards) == index.samples == sum(sizes)
    assert sum(shard.requests for shard in shards) == index.requests == sum(sizes) * repeats
    for subset in subsets:
        mine = [shard for shard in shards if shard.subset == subset.name]
        for start in range(0, subset.samples, 17):
            wanted = [s.index for s in mine if s.start < start + 20 and start < s.start + s.samples]
            assert list(index.overlapping(subset.name, start, 20)) == wanted


# Progress


def test_a_shard_is_complete_only_when_it_is_known_how_many_there_are():
    record = BenchmarkRecord(shards=2)
    assert record.take_in_all([ShardCounts("score", 0, 5), ShardCounts("score", 1, 5), ShardCounts("score", 0, 5)])
    assert (record.done, record.complete("score")) == (10, False)
    record.planned = True
    assert record.complete("score")
    assert not record.complete("generate")
    assert not record.take_in_all([ShardCounts("score", 1, 5)])


def test_full_blocks_are_told_once_all_of_their_shards_are_in():
    record = BenchmarkRecord()
    told = [
        n
        for n in (*range(63), *range(64, 130), 63)
        if record.take_in(ShardCounts("score", n)) and record.full_block("score", n) is not None
    ]
    assert told == [127, 63]


def test_a_record_of_ten_million_samples_stays_small():
    record = BenchmarkRecord(shards=156_250)
    record.arrived["score"] = f"{(1 << 156_250) - 1:x}"
    assert record.has("score", 156_249)
    assert len(record.arrived["score"]) < 40_000
    many = RunRecord()
    many.add(9_999)
    assert len(many.reduced) < 3_000
