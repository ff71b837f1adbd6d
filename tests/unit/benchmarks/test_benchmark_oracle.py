"""The oracle: for every benchmark a row, and completions with the score they must get."""

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import RowContext
from evalmesh.benchmarks.samples import render
from evalmesh.domain.completion import Completion
from evalmesh.domain.run import BenchmarkSpec

MATHS = [
    ("12 + 6 = 18.\nThe result is \\boxed{18}.", 1),
    ("<think>Perhaps \\boxed{7}?</think>So she makes **$18.00** a day.", 1),
    ("#### 18", 1),
    ("A first try gives \\boxed{17}. That was wrong; it is \\boxed{18 \\text{ dollars}}", 1),
    ("The result is \\boxed{1{,}8}0.", 0),
    ("The result is \\boxed{81}.", 0),
    ("I cannot solve this.", 0),
    ("", 0),
]
LETTER_C = [
    ("Days get shorter when a planet spins faster.\nANSWER: C", 1),
    ("**Answer:** (C)", 1),
    ("<think>A? B?</think>\n\nANSWER: c", 1),
    ("The answer is \\boxed{C}", 1),
    ("A looks right at first, but no.\n\nAnswer: C) text", 1),
    ("ANSWER: B", 0),
    ("A plausible question, but I will not choose.", 0),
    ("", 0),
]
FREE_TEXT = {
    "The Danube flows through Vienna.": {"exact_match": 1, "contains": 1, "f1": 1, "rouge_l": 1},
    "the danube flows through vienna": {"exact_match": 1, "contains": 1, "f1": 1, "rouge_l": 1},
    "<think>Rhine?</think>It is Danube": {"exact_match": 0, "contains": 1, "f1": 0.5, "rouge_l": 0.5},
    "Vienna: through it flows the Danube": {"exact_match": 0, "contains": 1, "f1": 8 / 9, "rouge_l": 1 / 3},
    "The Rhine.": {"exact_match": 0, "contains": 0, "f1": 0, "rouge_l": 0},
    "": {"exact_match": 0, "contains": 0, "f1": 0, "rouge_l": 0},
}
INSTRUCTIONS = {
    "roses are red\nviolets are blue": (1, 1, 1, 1),
    "<think>No commas, then.</think>roses are red": (1, 1, 1, 1),
    "Sure, here it is:\nroses are red": (0, 0, 1, 1),
    "Roses, red": (0, 0, 0, 0),
    "Roses are red": (0, 0.5, 0, 0.5),
    "": (0, 0, 0, 0),
}
LEVELS = ("prompt_level_strict", "inst_level_strict", "prompt_level_loose", "inst_level_loose")
ROWS = {
    "gsm8k": (
        {"question": "What does she make?", "answer": "16 - 7 = <<16-7=9>>9\n9 * 2 = $<<9*2=18>>18\n#### 18"},
        "main",
        MATHS,
    ),
    "starter_math": (
        {"question": "What comes in?", "answer": "18", "solution": "9 x 2 = 18", "topic": "selling"},
        "default",
        MATHS,
    ),
    "arc": (
        {
            "id": "M1",
            "question": "What follows?",
            "choices": {"text": ["w", "x", "y", "z"], "label": ["1", "2", "3", "4"]},
            "answerKey": "3",
        },
        "ARC-Challenge",
        LETTER_C,
    ),
    "mmlu": ({"question": "What follows?", "choices": ["w", "x", "y", "z"], "answer": 2}, "anatomy", LETTER_C),
    "general_mcq": (
        {"id": "7", "question": "What follows?", "A": "w", "B": "x", "C": "y", "D": "z", "E": "", "answer": "c"},
        "default",
        LETTER_C,
    ),
    "general_qa": (
        {"query": "Which river?", "response": ["The Danube flows through Vienna", "Danube"], "id": 3},
        "default",
        list(FREE_TEXT.items()),
    ),
    "hellaswag": (
        {
            "ind": 4,
            "activity_label": "Mooping floor",
            "ctx_a": "A man is in a house.",
            "ctx_b": "the man",
            "endings": ["w", "x", "y", "z"],
            "label": "2",
        },
        "default",
        LETTER_C,
    ),
    "ifeval": (
        {
            "key": 1000,
            "prompt": "Write on roses in lower case without commas.",
            "instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"],
            "kwargs": [{"num_words": None}, {}],
        },
        "default",
        [
            (text, {**dict(zip(LEVELS, values, strict=True)), "instructions": 2})
            for text, values in INSTRUCTIONS.items()
        ],
    ),
    "math_500": (
        {
            "problem": "What is half of $a^2$?",
            "solution": "9 x 2",
            "answer": "\\frac{a^2}{2}",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "test/algebra/1.json",
        },
        "default",
        [
            ("It is \\boxed{\\frac{a^2}{2}}", 1),
            ("<think>\\boxed{a}</think>\\boxed{\\dfrac12 a^2}", 1),
            ("\\[\\boxed{0.5a^{2}}\\]", 1),
            ("\\boxed{\\frac{a}{2}}", 0),
            ("I cannot.", 0),
            ("", 0),
        ],
    ),
    "boolq": (
        {"question": "is it so", "passage": "It is.", "answer": True},
        "default",
        [("It says so.\nANSWER: yes", 1), ("<think>No?</think>Yes.", 1), ("ANSWER: no", 0), ("Perhaps", 0), ("", 0)],
    ),
    "drop": (
        {
            "passage": "The Cats won 24 to 3.",
            "question": "Who won?",
            "answers_spans": {"spans": ["The Cats"], "types": ["span"]},
        },
        "default",
        [
            ("They did.\nANSWER: cats", {"f1": 1, "exact_match": 1}),
            ("<think>ANSWER: Dogs</think>the Cats.", {"f1": 1, "exact_match": 1}),
            ("Answer: the wild cats", {"f1": 0.67, "exact_match": 0}),
            ("ANSWER: Dogs", {"f1": 0, "exact_match": 0}),
            ("", {"f1": 0, "exact_match": 0}),
        ],
    ),
    "winogrande": (
        {"sentence": "Ann taught Eve, so _ knew more.", "option1": "Ann", "option2": "Eve", "answer": "1"},
        "winogrande_xl",
        [("The teacher knows more.\nANSWER: A", 1), ("Ann", 1), ("ANSWER: B", 0), ("", 0)],
    ),
    "starter_mcq": (
        {"question": "What follows?", "choices": ["w", "x", "y", "z"], "answer": "C", "subject": "science"},
        "science",
        LETTER_C,
    ),
}
ELSEWHERE = {"wikitext"}
"""Nothing is generated: see test_perplexity."""
CASES = [(name, text, value) for name, (_, _, cases) in ROWS.items() for text, value in cases]


def sample_of(name):
    row, subset, _ = ROWS[name]
    return registry.get(name).to_sample(row, RowContext(subset, 5))


def test_every_built_in_benchmark_has_an_oracle():
    assert set(ROWS) | ELSEWHERE == set(registry.names())


@pytest.mark.parametrize(("name", "text", "value"), CASES)
def test_completions_get_the_score_they_must(name, text, value):
    benchmark, sample = registry.get(name), sample_of(name)
    completion = Completion(sample.id, 0, "d", text=text, finish_reason="stop")
    fast = benchmark.shape.score_fast(sample, completion)
    full = benchmark.shape.score(sample, completion)
    assert full.state == "scored"
    assert full.values == pytest.approx(value if isinstance(value, dict) else {"accuracy": value})
    assert fast is None or fast.values == full.values


def test_a_symbolic_answer_is_left_to_the_slow_path():
    benchmark = registry.get("starter_math")
    row = {"question": "?", "answer": "\\sqrt{8}"}
    sample = benchmark.to_sample(row, RowContext("default", 0))
    completion = Completion(sample.id, 0, "d", text="\\boxed{2\\sqrt{2}}")
    assert benchmark.shape.score(sample, completion).values["accuracy"] == 1
    assert benchmark.shape.score_fast(sample, completion) in (None, benchmark.shape.score(sample, completion))


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_prompt_holds_the_question_and_never_the_solution(name):
    benchmark, sample = registry.get(name), sample_of(name)
    planned = render(benchmark, benchmark.prompt_settings(BenchmarkSpec(name), ()), sample)
    assert planned.digests == ()
    assert planned.kind == "chat"
    (message,) = planned.messages
    assert message.role == "user"
    assert sample.input in message.content
    assert "9 x 2" not in message.content
    assert "{" not in message.content.replace("\\boxed{}", "")
    if len(sample.choices) == 4:
        assert "A) w\nB) x\nC) y\nD) z" in message.content
        assert "one of A, B, C, D" in message.content


def test_rows_become_samples_with_letters_numbers_and_stable_ids():
    gsm8k, arc, own = sample_of("gsm8k"), sample_of("arc"), sample_of("general_mcq")
    assert (gsm8k.id, gsm8k.index, gsm8k.target) == ("main/5", 5, ("18",))
    assert gsm8k.metadata["solution"] == "16 - 7 = 9\n9 * 2 = $18"
    assert (arc.target, arc.metadata["id"]) == (("C",), "M1")
    assert (own.target, own.choices) == (("C",), ("w", "x", "y", "z"))


def test_the_hub_and_the_authors_layout_of_mmlu_give_the_same_sample():
    row = dict(zip(("question", "A", "B", "C", "D", "answer"), ("What follows?", *"wxyz", "C"), strict=True))
    assert registry.get("mmlu").to_sample(row, RowContext("anatomy", 5)) == sample_of("mmlu")


def test_mmlu_has_57_subjects_in_four_categories():
    mmlu = registry.get("mmlu")
    assert len(mmlu.subsets) == 57
    counts = {category: list(mmlu.categories.values()).count(category) for category in set(mmlu.categories.values())}
    assert counts == {"STEM": 18, "Humanities": 13, "Social Sciences": 12, "Other": 14}
