"""The samples in the page of a report: read back as a browser would, and held against the results."""

import base64
import io
import json
import random
import re
import zlib

import pytest
from tests.kit.results import KINDS, write_results
from tests.unit.report.builders import make_benchmark
from tests.unit.report.page import Page

from evalmesh.adapters.object_store.folder import FolderObjectStore
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.metric import ErroredSample
from evalmesh.domain.request import Message
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.pages.runs.samples import MOST_CHARACTERS
from evalmesh.report_aggregator.runs import page_file
from evalmesh.results.overview import fair_shares, first_of_each_subset, histogram
from evalmesh.results.query import ResultsFile
from evalmesh.results.table import ResultsWriter, read_results

RUN = "r-20260225-abc"
SHARDS = (("geo", KINDS * 30), ("zoo", KINDS * 10))
PACKED = re.compile(
    r'<script type="text/plain" data-samples="(light|full)" data-benchmark="(\d)" data-rows="(\d+)">([^<]*)</script>'
)


@pytest.fixture
def store(tmp_path):
    return FolderObjectStore(tmp_path)


async def page_with(store, build, *benchmarks):
    await page_file.write_page(build(*benchmarks), store)
    return (await store.get(layout.report_html_key(RUN))).decode()


async def put(store, name, path):
    await store.put(layout.results_key(RUN, name), path.read_bytes())


def samples_in(html):
    """Per benchmark, what its rows are made of, with prompts put together again."""
    found = {}
    for kind, benchmark, rows, letters in PACKED.findall(html):
        assert re.fullmatch(r"[A-Za-z0-9+/=]+", letters)
        columns = json.loads(zlib.decompress(base64.b64decode(letters)))
        assert {len(values) for values in columns.values()} == {int(rows)}
        for place, shared in enumerate(columns.get("shared", ())):
            if shared:  # scripts count in UTF-16 units
                before = columns["prompt"][place - 1].encode("utf-16-le", "surrogatepass")
                columns["prompt"][place] = before[: 2 * shared].decode("utf-16-le") + columns["prompt"][place]
        kept = found.setdefault(benchmark, {})
        for name, values in columns.items():
            kept.setdefault(f"short_{name}" if kind == "light" else name, []).extend(values)
    return found


async def test_the_page_holds_every_sample_with_its_prompt_and_how_it_was_read(store, build, tmp_path):
    path = write_results(tmp_path / "x.parquet", SHARDS, name="gsm8k", run=RUN)
    await put(store, "gsm8k", path)
    html = await page_with(store, build, make_benchmark(n_samples=240))
    rows, held = list(read_results(path)), samples_in(html)["0"]
    assert held["short_id"] == [row["sample_id"] for row in rows]
    assert held["short_grade"] == list(KINDS * 40)
    assert held["prompt"] == [row["prompt"] for row in rows]
    for name in ("completion", "reasoning", "answer", "extractor", "explanation", "score_accuracy", "latency_s"):
        assert held[name] == [row[name] for row in rows], name
    assert held["short_text"][3] == "out of luck"
    page = Page(PACKED.sub("", html))
    assert "240 of gsm8k" in page.shown
    assert "Answer length" in page.shown
    assert "Time to the whole answer" in page.shown
    assert [attributes for attributes in page.all("script") if not attributes] == [{}]


def hostile(number):
    texts = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(2)>",
        "\u202e\u2028\x00",
        "\U0001f600" * 99,
    ]
    return texts[number % 4] * (1 + number % 3)


async def test_what_models_write_is_packed_and_changes_nothing_of_the_page(store, build, tmp_path):
    path = tmp_path / "h.parquet"
    with ResultsWriter(path, run=RUN, benchmark="gsm8k", score_names=["acc"]) as writer:
        for n in range(40):
            sample = Sample(f"s/{n}", n, hostile(n), hostile(n), (hostile(n),))
            shots = [Message("system", "\U0001f600 shown " * 60), Message("user", hostile(n) + "\ud800")]
            score = Score(sample.id, 0, "scored", {"acc": 0.0}, hostile(n), hostile(n), hostile(n))
            writer.add(
                [PlannedSample(sample, "chat", ("d",), tuple(shots))],
                [Completion(sample.id, 0, "d", hostile(n), hostile(n))],
                [score],
            )
    await put(store, "gsm8k", path)
    html = await page_with(store, build, make_benchmark(n_samples=40))
    page = Page(html)
    scripts = page.all("script")
    assert [attributes for attributes in scripts if not attributes] == [{}]
    assert {attributes.get("type", "text/plain") for attributes in scripts} == {"text/plain"}
    assert not page.all("img")
    held, rows = samples_in(html)["0"], list(read_results(path))
    assert held["completion"] == [row["completion"] for row in rows]
    assert held["prompt"] == [row["prompt"] for row in rows]


async def test_long_texts_keep_their_ends_and_say_what_is_left_out(store, build, tmp_path):
    path = tmp_path / "long.parquet"
    with ResultsWriter(path, run=RUN, benchmark="gsm8k", score_names=["acc"]) as writer:
        sample = Sample("s/0", 0, "s", "q", ("A",))
        turns = (Message("user", "first " + "y" * 1_000_000 + " last"),)
        said = "begin " + "x" * 1_000_000 + " ANSWER: A"
        writer.add([PlannedSample(sample, "chat", ("d",), turns)], [Completion(sample.id, 0, "d", said)], [])
    await put(store, "gsm8k", path)
    held = samples_in(await page_with(store, build, make_benchmark(n_samples=1)))["0"]
    (prompt,) = json.loads(held["prompt"][0])
    for text, first, last in ((held["completion"][0], "begin ", "ANSWER: A"), (prompt["content"], "first ", " last")):
        assert text.startswith(first)
        assert text.endswith(last)
        assert "characters are left out here" in text
        assert len(text) < MOST_CHARACTERS + 200


async def test_a_large_run_shows_the_first_ones_of_each_subset_and_says_so(store, build, tmp_path, monkeypatch):
    monkeypatch.setattr(page_file, "MOST_ROWS", 100)
    await put(store, "gsm8k", write_results(tmp_path / "a.parquet", SHARDS, name="gsm8k", run=RUN))
    await put(store, "arc", write_results(tmp_path / "b.parquet", (("s", KINDS * 5),), name="arc", run=RUN))
    html = await page_with(store, build, make_benchmark(n_samples=240), make_benchmark("arc", n_samples=30))
    held = samples_in(html)
    assert len(held["1"]["short_id"]) == 30, "the small one is whole"
    assert held["0"]["short_id"] == [f"geo/{n}" for n in range(35)] + [f"zoo/{100 + n}" for n in range(35)]
    assert "70 of 240 of gsm8k (the first ones of each subset), 30 of arc." in Page(html).shown


async def test_a_page_has_room_for_so_many_bytes_only(store, build, tmp_path, monkeypatch):
    monkeypatch.setattr(page_file, "MOST_BYTES", 60_000)
    path, draw = tmp_path / "x.parquet", random.Random(3)
    with ResultsWriter(path, run=RUN, benchmark="gsm8k", score_names=["acc"]) as writer:
        for n in range(500):
            sample = Sample(f"s/{n}", n, "s", "q", ("A",))
            text = "".join(chr(draw.randrange(33, 1000)) for _ in range(400))
            writer.add([PlannedSample(sample, "chat", ("d",))], [Completion(sample.id, 0, "d", text)], [])
    await put(store, "gsm8k", path)
    html = await page_with(store, build, make_benchmark(n_samples=500))
    assert 0 < len(samples_in(html)["0"]["short_id"]) < 300
    assert sum(len(found[3]) for found in PACKED.findall(html)) < 2 * 60_000


async def test_results_that_cannot_be_read_cost_the_samples_alone(store, build):
    await store.put(layout.results_key(RUN, "gsm8k"), b"no table")
    html = await page_with(store, build, make_benchmark())
    assert "0.8500" in Page(html).shown
    assert not PACKED.search(html)


def test_room_is_shared_fairly():
    assert fair_shares({"a": 10, "b": 1000, "c": 500}, 100) == {"a": 10, "b": 45, "c": 45}
    assert fair_shares({"a": 3, "b": 4}, 100) == {"a": 3, "b": 4}
    assert sum(fair_shares({str(n): n for n in range(50)}, 333).values()) == 333
    assert fair_shares({}, 5) == {}


def test_the_first_of_each_subset_are_chosen_over_row_groups(tmp_path):
    shards = [(subset, ("right",) * size) for subset, size in (("a", 50), ("b", 3), ("a", 50), ("c", 60))]
    with ResultsFile(write_results(tmp_path / "x.parquet", shards)) as results:
        assert list(first_of_each_subset(results, 23)) == [*range(10), 50, 51, 52, *range(103, 113)]
        assert list(first_of_each_subset(results, 163)) == list(range(163))


@pytest.mark.parametrize("values", [[5], [0] * 9, list(range(1000)), [1] * 990 + [10**6] * 10, [900, 950, 1000]])
def test_a_histogram_counts_every_value_once(values):
    sink = io.BytesIO()
    with ResultsWriter(sink, run="r", benchmark="b", score_names=[]) as writer:
        for n, value in enumerate(values):
            sample = Sample(f"s/{n}", n, "s", "q", ())
            writer.add([PlannedSample(sample, "chat", ("d",))], [Completion(sample.id, 0, "d", "x" * value)], [])
    with ResultsFile(io.BytesIO(sink.getvalue())) as results:
        found = histogram(results, "completion")
        assert histogram(results, "output_tokens") is None
    assert found["n"] == len(values) == sum(found["counts"]) + found["beyond"]
    assert len(found["counts"]) <= 60
    for place, count in enumerate(found["counts"]):
        low = found["low"] + place * found["step"]
        assert count == sum(low <= value < low + found["step"] for value in values)
    assert found["max"] == max(values)


async def test_requests_without_a_score_lead_to_their_samples(store, build, tmp_path):
    await put(store, "gsm8k", write_results(tmp_path / "x.parquet", SHARDS, name="gsm8k", run=RUN))
    lost = ErroredSample("geo/3", 0, "errored", "HTTP 500")
    linked = Page(PACKED.sub("", await page_with(store, build, make_benchmark(n_samples=240, errored_samples=(lost,)))))
    assert "#sample=geo/3%230&benchmark=gsm8k" in {a["href"] for a in linked.all("a")}
