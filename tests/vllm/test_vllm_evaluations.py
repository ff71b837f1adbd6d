"""`evalmesh eval --engine vllm`: the accuracy of the bare model and of Transformers, to the sample."""

import json
from pathlib import Path

import pytest
import torch
from tests.kit.cli import evalmesh
from tests.kit.tiny_model import greedy, sums, write_choices, write_sums
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.timeout(1200)

ROWS = 60
OPTIONS = {"vllm": ["--model-args", "enforce_eager=true"], "transformers": []}


def evaluated(folder: Path, engine: str, *words: object) -> list[dict]:
    """What each sample got, in the order of the rows."""
    done = evalmesh("eval", "--engine", engine, *OPTIONS[engine], *words, cwd=folder, within_s=900)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.quiet
    shown = evalmesh("samples", "latest", "--format", "jsonl", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    return sorted(map(json.loads, shown.stdout.splitlines()), key=lambda row: row["index"])


def bare_answers(model: Path) -> list[str]:
    """No engine at all: one row after the other."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    answers = []
    for asked, _ in sums(ROWS):
        turns = [{"role": "user", "content": asked}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        said = greedy(weights, tokenizer.encode(text, add_special_tokens=False), 8, (tokenizer.eos_token_id,))
        answers.append(tokenizer.decode(list(said), skip_special_tokens=True))
    return answers


@pytest.mark.parametrize("engine", OPTIONS)
def test_sums_are_answered_as_by_the_bare_model(tmp_path, sums_model, engine):
    write_sums(tmp_path / "sums.jsonl", ROWS)
    words = ("--model", sums_model, "--datasets", "general_qa:sums.jsonl", "--temperature", 0, "--max-tokens", 8)
    rows = evaluated(tmp_path, engine, *words)
    assert [row["completion"] for row in rows] == bare_answers(sums_model)
    right = sum(row["score_exact_match"] for row in rows)
    assert right == sum(row["completion"] == answer for row, (_, answer) in zip(rows, sums(ROWS), strict=True))
    assert 0.3 * ROWS < right < ROWS


def test_choices_are_scored_as_likely_as_by_transformers(tmp_path, sums_model):
    write_choices(tmp_path / "choices.jsonl", ROWS)
    scoring = json.dumps({"general_mcq": {"scoring": "loglikelihood"}})
    words = ("--model", sums_model, "--datasets", "general_mcq:choices.jsonl", "--dataset-args", scoring)
    ours, theirs = (evaluated(tmp_path, engine, *words) for engine in OPTIONS)
    assert [row["answer"] for row in ours] == [row["answer"] for row in theirs]
    assert [row["grade"] for row in ours] == [row["grade"] for row in theirs]
    own, wanted = ([one["logprob"] for row in rows for one in row["continuations"]] for rows in (ours, theirs))
    assert own == pytest.approx(wanted, abs=1e-4, rel=2e-5)  # 32 bits; what is next to impossible differs by more
