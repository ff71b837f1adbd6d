"""Shapes through the whole platform: what is weighed, what is said of a corpus, and slow scorers in a mode."""

import json
import math
import random
from pathlib import Path

import pytest
import sacrebleu
from tests.kit.platform import metrics_of, opened, run_to_end
from tests.kit.simulator import simulator
from tests.kit.truth import results_of

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState

pytestmark = pytest.mark.timeout(120)

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "slept", "all", "day", "while", "dogs", "ran", "by"]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


async def test_a_corpus_and_an_option_in_a_blank_are_judged_by_log_likelihood(tmp_path):
    rng = random.Random(5)
    pages = [{"page": " ".join(rng.choices(WORDS, k=rng.randint(5, 200)))} for _ in range(9)]
    blanks = [
        {"sentence": f"{n} cats saw _ run.", "option1": "dogs", "option2": "a dog", "answer": "1"} for n in range(9)
    ]
    benchmarks = (
        BenchmarkSpec("wikitext", local_path=write(tmp_path / "pages.jsonl", pages)),
        BenchmarkSpec(
            "winogrande", local_path=write(tmp_path / "blanks.jsonl", blanks), extra={"scoring": "loglikelihood"}
        ),
    )
    with simulator() as model:
        async with opened(tmp_path / "work") as (_, client):
            # The simulator's texts begin with no token of its own, without which their first token has no value.
            asked = ModelSpec("simulated", url=model.url, kind="completion", args={"prefix": "<s>"})
            spec = RunSpec(asked, benchmarks, shard_size=4)
            run = await run_to_end(client, spec)
            assert run.state is RunState.SUCCEEDED, run.error
            metrics = await metrics_of(client, run, "wikitext")
            rows = await results_of(client, run, "wikitext")
            blanks = await results_of(client, run, "winogrande")
    nats = -sum(row["continuations"][0]["logprob"] for row in rows)
    n_bytes, n_words = (sum(len(text(page["page"])) for page in pages) for text in (str.encode, str.split))
    assert {name: one["value"] for name, one in metrics.items()} == pytest.approx(
        {
            "bits_per_byte": nats / math.log(2) / n_bytes,
            "byte_perplexity": math.exp(nats / n_bytes),
            "word_perplexity": math.exp(nats / n_words),
        }
    )
    assert all(one["ci95"][0] < one["value"] < one["ci95"][1] for one in metrics.values())
    assert {row["outcome"] for row in (*rows, *blanks)} == {"answered"}
    assert [one["text"] for one in blanks[3]["continuations"]] == ["3 cats saw dogs run.", "3 cats saw a dog run."]


async def test_slow_scorers_know_in_which_mode_they_are(tmp_path):
    rows = [{"query": f"Which river flows through city {n}?", "response": f"The river number {n}"} for n in range(12)]
    path = write(tmp_path / "rivers.jsonl", rows)
    arguments = json.dumps({"general_qa": {"local_path": path}})
    with simulator("--benchmarks", "general_qa", "--dataset-args", arguments, "--skill", "0.5") as model:
        async with opened(tmp_path / "work") as (_, client):
            one = BenchmarkSpec("general_qa", local_path=path, extra={"scoring": "overlap"})
            run = await run_to_end(client, RunSpec(ModelSpec("simulated", url=model.url), (one,), shard_size=5))
            assert run.state is RunState.SUCCEEDED, run.error
            metrics = await metrics_of(client, run, "general_qa")
            results = await results_of(client, run, "general_qa")
    assert {name: one["n_scored"] for name, one in metrics.items()} == dict.fromkeys(
        ("rouge_l", "rouge1", "rouge2", "bleu", "chrf", "corpus_bleu"), 12
    )
    corpus = sacrebleu.corpus_bleu([row["answer"] for row in results], [[row["target"][0] for row in results]])
    assert metrics["corpus_bleu"]["value"] == pytest.approx(corpus.score / 100)
