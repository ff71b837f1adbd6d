"""A scorer whose plug-in misbehaves in every way: each sample it fails with costs that sample, and the run goes on."""

import json
from contextlib import asynccontextmanager

import pytest
from tests.kit.nats import running_server
from tests.kit.services import plan_run, service

from evalmesh.adapters.connections import open_connections
from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.domain.work import Queue, Shard, Task, WorkItem

PLUG_IN = """
import os
from decimal import Decimal
from fractions import Fraction

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, MetricSpec
from evalmesh.benchmarks.shapes.final_answer import FinalAnswer
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score


def dig():
    return dig() + 1


def rave():
    for number in range(3, 30):
        try:
            os.write(number, b"nonsense" * 100)
        except OSError:
            pass


def spin():
    while True:
        pass


WAYS = {
    "right": lambda score: score(acc=1),
    "fraction": lambda score: score(acc=Fraction(1, 2)),
    "raise": lambda score: {}["gone"],
    "dig": lambda score: dig(),
    "nan": lambda score: score(acc=float("nan")),
    "infinite": lambda score: score(acc=float("-inf")),
    "infinite-other": lambda score: score(acc=1.0, other=float("inf")),
    "beyond": lambda score: score(acc=1e200),
    "endless-decimal": lambda score: score(acc=Decimal("sNaN")),
    "huge-integer": lambda score: score(acc=10**400),
    "null": lambda score: score(acc=None),
    "text": lambda score: score(acc="1"),
    "no-value": lambda score: score(other=1.0),
    "answer": lambda score: Score(score.sample, 0, "scored", {"acc": 1.0}, answer=7),
    "state": lambda score: Score(score.sample, 0, "splendid", {"acc": 1.0}),
    "nothing": lambda score: None,
    "a-number": lambda score: 1.0,
    "another-sample": lambda score: Score("default/99", 0, "scored", {"acc": 1.0}),
    "another-repeat": lambda score: Score(score.sample, 4, "scored", {"acc": 1.0}),
    "half-a-letter": lambda score: Score(score.sample, 0, "scored", {"acc": 1.0}, explanation=chr(0xD800)),
    "unscored": lambda score: Score(score.sample, 0, "unscored", {"acc": float("nan")}),
    "eat": lambda score: score(acc=len([0] * (1 << 40))),
    "eat-slowly": lambda score: [None for each in iter(lambda: score.kept.append([0] * 10000), 1)],
    "spin": lambda score: spin(),
    "leave": lambda score: os._exit(7),
    "rave": lambda score: rave() or score(acc=1),
    "key": lambda score: score(acc=float("OPENAI_API_KEY" in os.environ)),
}
ONLY_SLOW = {"eat", "eat-slowly", "spin", "leave", "rave", "key"}


class Maker:
    def __init__(self, sample):
        self.sample = sample
        self.kept = []

    def __call__(self, **values):
        return Score(self.sample, 0, "scored", values)


class Odd(FinalAnswer):
    def score_fast(self, sample, completion):
        speed, way = completion.text.split()
        # `None` from here means: later.
        return WAYS[way](Maker(completion.sample_id)) if speed == "fast" else None

    def score(self, sample, completion):
        return WAYS[completion.text.split()[1]](Maker(completion.sample_id))


def to_sample(row, context):
    return Sample(f"{context.subset}/{context.index}", context.index, context.subset, row["question"], ("1",))


def benchmarks():
    return [Benchmark(name="odd", version=1, title="Odd", description="Odd.", dataset=DatasetInfo(license="CC0"),
                      shape=Odd(metrics=(MetricSpec("acc", "acc"),)), to_sample=to_sample, needs_local_path=True)]
"""
RIGHT = {"right": 1.0, "fraction": 0.5, "half-a-letter": 1.0}
UNSCORED = {
    "raise": "KeyError: 'gone'",
    "dig": "RecursionError: maximum recursion depth",
    "nan": "BadScore: the value 'acc' is nan",
    "infinite": "BadScore: the value 'acc' is -inf",
    "infinite-other": "BadScore: the value 'other' is inf",
    "beyond": "BadScore: the value 'acc' is 1e+200; 1e+100 is the most",
    "endless-decimal": "BadScore: the value 'acc' is sNaN",
    "huge-integer": "BadScore: the value 'acc' is 1000",
    "null": "BadScore: the value 'acc' is a NoneType",
    "text": "BadScore: the value 'acc' is a str",
    "no-value": "BadScore: the scorer returned no value for 'acc'",
    "answer": "BadScore: the scorer returned a int as answer",
    "state": "BadScore: the scorer returned the state 'splendid'",
    "a-number": "BadScore: the scorer returned a float",
    "another-sample": "BadScore: the scorer was asked about default/",
    "another-repeat": "BadScore: the scorer was asked about default/",
    "unscored": "the scorer gave no reason",
}
UNSCORED_SLOWLY = UNSCORED | {
    "nothing": "BadScore: the scorer returned a NoneType",
    "eat": "MemoryError: ",
    "eat-slowly": "MemoryError: ",
    "spin": "The call took longer than 3 s",
    "leave": "The worker process died during the call (exit code 7)",
    "rave": "The worker process did not give a result",
}
COMPLETIONS = [
    *(("fast", way) for way in (*RIGHT, *UNSCORED)),
    *(("slow", way) for way in (*RIGHT, *UNSCORED_SLOWLY, "key")),
]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Where the plug-in is installed, for us and for the services we start."""
    folder = tmp_path / "site"
    info = folder / "odd_plug_in-1.dist-info"
    info.mkdir(parents=True)
    (folder / "odd_plug_in.py").write_text(PLUG_IN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-plug-in\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[evalmesh.benchmarks]\nodd = odd_plug_in:benchmarks\n")
    monkeypatch.syspath_prepend(str(folder))
    registry._installed.cache_clear()
    yield folder
    registry._installed.cache_clear()


@pytest.fixture
def environment(site, tmp_path):
    with running_server(tmp_path / "nats") as nats:
        yield {
            "EVALMESH_BUS_URL": nats.url,
            "EVALMESH_OBJECTS_URL": (tmp_path / "objects").as_uri(),
            "EVALMESH_SCORER_SAMPLE_DEADLINE_S": "3",
            "EVALMESH_SCORER_MEMORY_MIB": "256",
            "OPENAI_API_KEY": "sesame",
            "PYTHONPATH": str(site),
        }


@asynccontextmanager
async def planned(environment, tmp_path):
    """A run whose completions are there and whose shard waits to be scored."""
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"question": " ".join(one)}) + "\n" for one in COMPLETIONS))
    spec = RunSpec(
        ModelSpec("simulated", url="http://127.0.0.1:9/v1"),
        (BenchmarkSpec("odd", local_path=str(questions)),),
        shard_size=len(COMPLETIONS),
    )
    where = environment["EVALMESH_BUS_URL"], environment["EVALMESH_OBJECTS_URL"]
    async with open_connections(*where, "test", 10.0) as opened:
        files = (await plan_run(opened, "odd-run", spec)).of("odd")
        _, rows = await files.read_requests(0)
        asked = [request for row in rows for request in row.requests()]
        said = [
            Completion(one.sample_id, 0, one.digest, text=" ".join(text))
            for one, text in zip(asked, COMPLETIONS, strict=True)
        ]
        await files.of("generate").write(0, said)
        yield opened, files


async def test_each_sample_that_a_scorer_fails_with_is_unscored_alone(environment, tmp_path):
    async with planned(environment, tmp_path) as (opened, files):
        with service("scorer", environment) as scorer:
            shard = Shard(0, "default", 0, len(COMPLETIONS), len(COMPLETIONS))
            await opened.bus.publish([WorkItem("odd-run", Task.STAGE, "odd", "score", "score", shard)])
            consumer = await opened.bus.consume(Queue.REDUCE)
            (delivery,) = await consumer.fetch(1, 90.0)
            await consumer.close()
            assert (delivery.item.shard_index, delivery.item.error) == (0, "")
        scores = await files.read_scores("score", 0)
    by_text = dict(zip(COMPLETIONS, scores, strict=True))
    for (speed, way), score in by_text.items():
        if way in RIGHT or way == "key":
            assert (score.state, dict(score.values)) == ("scored", {"acc": RIGHT.get(way, 0.0)}), (speed, way)
        else:
            assert (score.state, dict(score.values)) == ("unscored", {}), (speed, way)
            assert score.reason.startswith(UNSCORED_SLOWLY[way]), (speed, way, score.reason)
    told = [line for line in scorer.logs() if "the scorer of odd failed" in line["message"]]
    assert len(told) == 1
    assert "odd_plug_in.py" in json.dumps(told), "where it failed is in the log"


async def test_scores_stored_before_values_had_to_be_numbers_can_be_read(environment, tmp_path):
    row = {"sample_id": "default/0", "repeat": 0, "state": "scored", "answer": "7"}
    old = [{**row, "values": {"acc": 1.0}}, {**row, "sample_id": "default/1", "values": {"acc": None}}]
    async with planned(environment, tmp_path) as (opened, files):
        key = layout.output_key("odd-run", "odd", "score", 0)
        await opened.objects.put(key, "".join(json.dumps(one) + "\n" for one in old).encode())
        right, healed = await files.read_scores("score", 0)
    assert (right.state, right.values) == ("scored", {"acc": 1.0})
    assert (healed.state, healed.values, healed.answer) == ("unscored", {}, "7")
    assert healed.reason == "the value 'acc' was no finite number"
