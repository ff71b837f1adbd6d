"""Real responses to the 541 prompts of IFEval get their published verdicts; where we differ, each has its reason.

Reasons:
  random     The row asks for `#` or `!`, which the original checker takes for no letter and replaces by one drawn at
             random; here the mark is counted.
  short      The original asks a detector of languages that draws random numbers, about a few words ("etchings"), about
             names or about lines in two languages. Here what tells of no other language counts as English.
"""

import json

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import RowContext
from evalmesh.domain.completion import Completion
from evalmesh.scoring.instruction_following import score_instructions

pytestmark = pytest.mark.shared_data

LETTERS, CAPITALS, SMALL, LANGUAGE = (
    "keywords:letter_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "language:response_language",
)
REASONS = {LETTERS: "random", CAPITALS: "short", SMALL: "short", LANGUAGE: "short"}
# Model, published percentages (prompt and instruction strict, then loose), and by key the instruction that we judge
# otherwise: strict, loose.
MODELS = [
    ("gpt-4o-mini-2024-07-18", (80.41, 85.97, 83.92, 88.73), {202: SMALL}, {1122: LETTERS}),
    (
        "Qwen__Qwen2.5-7B-Instruct-GPTQ-Int4",
        (73.01, 80.58, 75.79, 82.61),
        {1122: LETTERS, 1129: LETTERS, 202: SMALL, 1843: SMALL, 3456: CAPITALS, 3572: CAPITALS, 3617: CAPITALS},
        {202: SMALL, 1843: SMALL, 3572: CAPITALS, 3617: CAPITALS},
    ),
    (
        "mistralai__Mistral-7B-Instruct-v0.3",
        (47.13, 58.99, 51.39, 63.43),
        {},
        {1122: LETTERS, 2309: LANGUAGE, 3112: LANGUAGE, 3195: LANGUAGE},
    ),
    (
        "Qwen__Qwen2.5-1.5B-Instruct-GPTQ-Int4",
        (37.15, 49.52, 42.14, 53.84),
        {1122: LETTERS, 1129: LETTERS, 24: CAPITALS, 2596: LANGUAGE},
        {1122: LETTERS, 1129: LETTERS, 2596: LANGUAGE},
    ),
]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def figures(verdicts):
    """Prompt level and instruction level, in percent."""
    flat = [one for prompt in verdicts for one in prompt]
    return round(100 * sum(map(all, verdicts)) / len(verdicts), 2), round(100 * sum(flat) / len(flat), 2)


@pytest.mark.parametrize(("model", "published", "strict", "loose"), MODELS)
def test_responses_get_their_published_verdicts(shared_data, model, published, strict, loose):
    folder = shared_data / "ifeval"
    rows = lines(folder / "m_ifeval_en_input_data.jsonl")
    said = lines(folder / "responses" / f"{model}.jsonl")
    theirs = lines(folder / "verdicts" / f"{model}.jsonl")
    assert figures([one["strict"] for one in theirs]) + figures([one["loose"] for one in theirs]) == published
    found = ({}, {})
    for row, response, verdict in zip(rows, said, theirs, strict=True):
        names = [name.removeprefix("en:") for name in row["instruction_id_list"]]
        for n, name in enumerate(names):
            one = {**row, "instruction_id_list": [name], "kwargs": [row["kwargs"][n]]}
            sample = registry.get("ifeval").to_sample(one, RowContext("default", 0))
            score = score_instructions(sample, Completion(sample.id, 0, "", text=response["response"]))
            for how, of in zip(("strict", "loose"), found, strict=True):
                if bool(score.values[f"prompt_level_{how}"]) != verdict[how][n]:
                    of[row["key"]] = name
    assert found == (strict, loose)
    assert set(REASONS) >= {*strict.values(), *loose.values()}


def test_all_instructions_of_a_prompt_make_its_score(shared_data):
    """The same figures, as the benchmark's metrics count them, for the model that differs nowhere in strict."""
    folder, model = shared_data / "ifeval", "mistralai__Mistral-7B-Instruct-v0.3"
    rows, said = lines(folder / "m_ifeval_en_input_data.jsonl"), lines(folder / "responses" / f"{model}.jsonl")
    values = []
    for index, (row, response) in enumerate(zip(rows, said, strict=True)):
        row["instruction_id_list"] = [name.removeprefix("en:") for name in row["instruction_id_list"]]
        sample = registry.get("ifeval").to_sample(row, RowContext("default", index))
        values.append(score_instructions(sample, Completion(sample.id, 0, "", text=response["response"])).values)
    prompts = sum(one["prompt_level_strict"] for one in values) / len(values)
    followed = sum(one["inst_level_strict"] * one["instructions"] for one in values)
    assert (round(100 * prompts, 2), round(100 * followed / 834, 2)) == (47.13, 58.99)
