"""The score a run reports is the score the simulator knows, to the sample, however the work was spread."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.truth import check_against_truth, results_of

from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.simulator.catalog import load_known
from evalmesh.simulator.knowledge import Knowledge
from evalmesh.simulator.skill import KnownSample, Skill

pytestmark = pytest.mark.timeout(120)

SHARED = ("gsm8k", "arc", "mmlu")
OWN = ("starter_math", "starter_mcq", "general_mcq")
SKILL = Skill()
LIMIT = {"gsm8k": 150, "arc": 60, "mmlu": 4, "starter_math": 60, "starter_mcq": 15, "general_mcq": 80}


@dataclass(frozen=True)
class Model:
    """A simulated model, and what it knows."""

    process: SimulatorProcess
    knowledge: Knowledge
    samples: tuple[KnownSample, ...]
    dataset_dir: str
    questions: Path

    def spec(self, *benchmarks: str, **more: Any) -> RunSpec:
        specs = tuple(self.benchmark(name, limit=LIMIT[name]) for name in benchmarks)
        return RunSpec(
            model=ModelSpec("simulated", url=self.process.url),
            benchmarks=specs,
            dataset_dir=self.dataset_dir,
            shard_size=16,
            **more,
        )

    def benchmark(self, name: str, **more: Any) -> BenchmarkSpec:
        return BenchmarkSpec(name, local_path=str(self.questions) if name == "general_mcq" else None, **more)

    def is_right(self, benchmark: str, sample_id: str, seed: int | None = None) -> bool:
        known = next(one for one in self.samples if one.key == f"{benchmark}/{sample_id}")
        return self.knowledge.is_right(SKILL, known, seed)

    def expected(self, benchmark: str, below: int) -> tuple[int, int]:
        """(right, asked) when the first rows of each subset are asked."""
        by_subset: dict[str, list[KnownSample]] = defaultdict(list)
        for one in self.samples:
            if one.benchmark == benchmark:
                by_subset[one.sample.subset].append(one)
        asked = [one for subset in by_subset.values() for one in subset[:below]]
        return self.knowledge.expected_right(SKILL, asked), len(asked)


def make_model(names: tuple[str, ...], dataset_dir: str, questions: Path) -> Iterator[Model]:
    arguments = {"general_mcq": {"local_path": str(questions)}} if "general_mcq" in names else {}
    samples = load_known(names, arguments, dataset_dir)
    options = ["--dataset-args", json.dumps(arguments), "--dataset-dir", dataset_dir, "--awkwardness", "1.0"]
    with simulator("--benchmarks", *names, *options) as process:
        yield Model(process, Knowledge(samples), samples, dataset_dir, questions)


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", 100)


@pytest.fixture(scope="module")
def own_model(questions) -> Iterator[Model]:
    yield from make_model(OWN, "", questions)


@pytest.fixture(scope="module")
def shared_model(questions, shared_data) -> Iterator[Model]:
    yield from make_model(SHARED, str(shared_data), questions)


@pytest.fixture
def own(own_model) -> Model:
    own_model.process.reset()
    return own_model


@pytest.fixture
def shared(shared_model) -> Model:
    shared_model.process.reset()
    return shared_model


async def check_all(client, model: Model, run, benchmarks: tuple[str, ...]) -> None:
    """Score, counts and every single sample are what the simulator knows."""
    assert (run.state, run.error) == (RunState.SUCCEEDED, "")
    for name in benchmarks:
        expected = model.expected(name, LIMIT[name])
        assert await check_against_truth(client, run, name, model.process) == expected[0]
        accuracy = (await metrics_of(client, run, name))["accuracy"]
        assert (accuracy["n_scored"], accuracy["n_errored"], accuracy["n_unscored"]) == (expected[1], 0, 0)
        assert accuracy["value"] == pytest.approx(expected[0] / expected[1], abs=1e-12)
        assert accuracy["ci95"][0] < accuracy["value"] < accuracy["ci95"][1]
    assert model.process.stats()["unknown"] == 0, "a prompt was not recognised as the sample it asks about"


async def test_own_benchmarks_to_the_sample(own, tmp_path):
    async with opened(tmp_path) as (_, client):
        await check_all(client, own, await run_to_end(client, own.spec(*OWN)), OWN)


@pytest.mark.shared_data
async def test_shared_benchmarks_with_their_own_shots_to_the_sample(shared, tmp_path):
    async with opened(tmp_path) as (_, client):
        await check_all(client, shared, await run_to_end(client, shared.spec(*SHARED)), SHARED)


@pytest.mark.parametrize("name", OWN)
async def test_as_text_completions_own_benchmarks_are_as_right(own, tmp_path, name):
    await check_as_completions(own, tmp_path, name)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", SHARED)
async def test_as_text_completions_shared_benchmarks_are_as_right(shared, tmp_path, name):
    await check_as_completions(shared, tmp_path, name)


async def check_as_completions(model: Model, work_dir: Path, name: str) -> None:
    spec = model.spec(name)
    async with opened(work_dir) as (_, client):
        run = await run_to_end(client, replace(spec, model=replace(spec.model, kind="completion")))
        await check_all(client, model, run, (name,))
        rows = await results_of(client, run, name)
    assert all(isinstance(row["prompt"], str) and not row["prompt"].startswith("[") for row in rows)


async def test_any_number_of_processes_gives_identical_scores(own, tmp_path):
    seen = []
    for runners in (0, 1, 2, 8):
        own.process.reset()
        async with opened(tmp_path / str(runners), processes=runners > 0, runners=runners or 1) as (_, client):
            run = await run_to_end(client, own.spec(*OWN))
            await check_all(client, own, run, OWN)
            report = await client.report(run)
            seen.append([(b["name"], b["metrics"], b["subsets"], b["dataset_digest"]) for b in report["benchmarks"]])
    assert all(one == seen[0] for one in seen)


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "shots"), [("gsm8k", 4), ("mmlu", 5), ("arc", 0)])
async def test_examples_are_shown_and_the_question_after_them_is_answered(shared, tmp_path, name, shots):
    one = shared.benchmark(name, limit=10, subsets=("anatomy",) if name == "mmlu" else None, few_shot_num=shots)
    spec = replace(shared.spec(), benchmarks=(one,))
    async with opened(tmp_path) as (_, client):
        preview = (await client.preview_benchmark(one, sample_count=1, dataset_dir=shared.dataset_dir))[0]
        run = await run_to_end(client, spec)
        right = await check_against_truth(client, run, name, shared.process)
        rows = await results_of(client, run, name)
    roles = [message.role for message in preview.messages]
    assert (roles.count("user"), roles.count("assistant")) == (shots + 1, shots)
    assert right == sum(shared.is_right(name, row["sample_id"]) for row in rows)
    assert shared.process.stats()["unknown"] == 0


async def test_shuffled_rows_and_shuffled_choices_keep_their_truth(own, tmp_path):
    one = own.benchmark("general_mcq", limit=40, shuffle=True, shuffle_choices=True)
    async with opened(tmp_path) as (_, client):
        run = await run_to_end(client, replace(own.spec(), benchmarks=(one,), seed=7))
        right = await check_against_truth(client, run, "general_mcq", own.process)
        rows = await results_of(client, run, "general_mcq")
        again = await run_to_end(client, replace(own.spec(), benchmarks=(one,), seed=7))
        other = await run_to_end(client, replace(own.spec(), benchmarks=(one,), seed=8))
        ids = [[r["sample_id"] for r in await results_of(client, which, "general_mcq")] for which in (again, other)]
    chosen = [row["sample_id"] for row in rows]
    assert len(chosen) == 40
    assert chosen != [f"default/{index}" for index in range(40)]
    assert (ids[0] == chosen, ids[1] == chosen) == (True, False)
    assert right == sum(own.is_right("general_mcq", sample_id) for sample_id in chosen)
    assert any("ABCD"[int(row["sample_id"].split("/")[1]) % 4] != row["target"][0] for row in rows), "not shuffled"


async def test_three_repeats_are_three_answers_per_sample(own, tmp_path):
    one = own.benchmark("starter_math", limit=40)
    spec = replace(own.spec(), benchmarks=(one,), repeats=3, generation=GenerationConfig(seed=11, temperature=1.0))
    async with opened(tmp_path) as (_, client):
        run = await run_to_end(client, spec)
        rows = await results_of(client, run, "starter_math")
        metrics = await metrics_of(client, run, "starter_math")
    truth = {
        (r["sample_id"], r["repeat"]): own.is_right("starter_math", r["sample_id"], 11 + r["repeat"]) for r in rows
    }
    assert len(truth) == len(rows) == 120
    assert {(r["sample_id"], r["repeat"]): r["score_accuracy"] == 1.0 for r in rows} == truth
    by_sample = [[truth[sample, repeat] for repeat in range(3)] for sample in sorted({key[0] for key in truth})]
    assert any(0 < sum(row) < 3 for row in by_sample), "repeats that never differ prove nothing"
    expected = {
        "accuracy": sum(map(sum, by_sample)) / 120,
        "pass@3": sum(map(any, by_sample)) / 40,
        "pass^3": sum(map(all, by_sample)) / 40,
    }
    assert {name: metrics[name]["value"] for name in expected} == pytest.approx(expected)
    assert metrics["pass^3"]["value"] <= metrics["majority@3"]["value"] <= metrics["pass@3"]["value"]
    assert metrics["accuracy"]["n_scored"] == 120


@pytest.mark.parametrize(("limit", "asked"), [(7, 7), (0.25, 25), (0.001, 1), (1000, 100)])
async def test_limits_are_counts_or_fractions_rounded_up(own, tmp_path, limit, asked):
    spec = replace(own.spec(), benchmarks=(own.benchmark("general_mcq"),), limit=limit)
    async with opened(tmp_path) as (_, client):
        run = await run_to_end(client, spec)
        assert (
            await check_against_truth(client, run, "general_mcq", own.process) == own.expected("general_mcq", asked)[0]
        )
        assert (await metrics_of(client, run, "general_mcq"))["accuracy"]["n_scored"] == asked
