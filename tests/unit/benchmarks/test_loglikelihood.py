"""Multiple choice by log-likelihood: what is asked, and the scores that known log probabilities must get."""

import dataclasses

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.samples import render
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.domain.completion import Completion, ContinuationScore
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Needs
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample

SKY = Sample("s/0", 0, "s", "What colour is the sky?", ("B",), ("green", "blue", "a colour of the rainbow"))
GRASS = Sample("s/1", 1, "s", "And grass?", ("A",), ("green", "blue"))
BY_TEXT = BenchmarkSpec("arc", extra={"mode": "loglikelihood"})
BY_PMI = BenchmarkSpec("arc", extra={"mode": "pmi"})


def planned(spec, sample=SKY, shots=()):
    validate_spec(registry.get("arc"), spec)
    benchmark = registry.get("arc").for_spec(spec)
    return render(benchmark, benchmark.prompt_settings(spec, shots, "completion"), sample)


def judged(spec, *scores, sample=SKY):
    completion = Completion(sample.id, 0, "", continuations=tuple(ContinuationScore(*score) for score in scores))
    shape = registry.get("arc").for_spec(spec).shape
    found = shape.score_fast(sample, completion)
    assert found == shape.score(sample, completion)
    return found


def test_options_are_judged_as_texts_after_the_question():
    one = planned(BY_TEXT)
    assert (one.kind, one.messages) == ("loglikelihood", ())
    assert one.prompt == "Question: What colour is the sky?\nAnswer:"
    assert one.continuations == (" green", " blue", " a colour of the rainbow")


def test_solved_examples_and_a_system_prompt_come_before():
    spec = dataclasses.replace(BY_TEXT, few_shot_num=1, system_prompt="Be right.")
    one = planned(spec, shots=(GRASS,))
    assert (
        one.prompt == "Be right.\n\nQuestion: And grass?\nAnswer: green\n\nQuestion: What colour is the sky?\nAnswer:"
    )


def test_a_template_that_lists_the_options_has_letters_judged():
    spec = dataclasses.replace(BY_TEXT, prompt_template="{question}\n{choices}\nOne of {letters}: ")
    one = planned(spec, GRASS, (GRASS,))
    assert one.prompt == "And grass?\nA. green\nB. blue\nOne of A, B: A\n\nAnd grass?\nA. green\nB. blue\nOne of A, B:"
    assert one.continuations == (" A", " B")


def test_for_pmi_every_option_follows_the_question_and_neutral_words():
    one = planned(BY_PMI, GRASS)
    assert one.prompt == ""
    assert one.continuations == (
        "Question: And grass?\nAnswer: green",
        "Question: And grass?\nAnswer: blue",
        "Answer: green",
        "Answer: blue",
    )


# (sum, tokens) per option; accuracy, acc_norm, acc_norm_tokens. The options of SKY have 5, 4 and 23 bytes.
ORACLE = [
    (((-3.0, 1), (-1.0, 1), (-9.0, 5)), "B", (1, 1, 1)),
    # the long option wins by length alone: -4/23 per byte, -4/5 per token
    (((-3.0, 1), (-1.5, 1), (-4.0, 5)), "B", (1, 0, 0)),
    # the right one is right per byte (-2/4 = -0.5 against -0.6 and -1), not by its sum
    (((-3.0, 3), (-2.0, 1), (-1.9, 1)), "C", (0, 0, 0)),
    (((-1.9, 1), (-2.0, 4), (-23.0, 10)), "A", (0, 0, 1)),
    (((-1.9, 1), (-1.0, 1), (-23.0, 10)), "B", (1, 1, 1)),
    # 5 bytes at -2.6 are -0.52 per byte, 4 bytes at -2.0 -0.5
    (((-2.6, 2), (-2.0, 1), (-23.0, 4)), "B", (1, 1, 0)),
    # equal: the first counts as chosen
    (((-1.0, 1), (-1.0, 1), (-1.0, 1)), "A", (0, 0, 0)),
    (((0.0, 1), (0.0, 1), (-1.0, 1)), "A", (0, 0, 0)),
]


@pytest.mark.parametrize(("scores", "answer", "expected"), ORACLE)
def test_the_oracle(scores, answer, expected):
    found = judged(BY_TEXT, *scores)
    assert (found.state, found.answer, found.extractor) == ("scored", answer, "loglikelihood")
    assert dict(found.values) == dict(zip(("accuracy", "acc_norm", "acc_norm_tokens"), expected, strict=True))


@pytest.mark.parametrize(
    ("scores", "value"),
    [
        # asked A, asked B, neutral A, neutral B: A is likelier as such, B gains more by the question
        (((-2.0, 1), (-3.0, 1), (-1.0, 1), (-9.0, 1)), 0.0),
        (((-2.0, 1), (-3.0, 1), (-9.0, 1), (-1.0, 1)), 1.0),
    ],
)
def test_pmi_compares_what_the_question_adds(scores, value):
    assert dict(judged(BY_PMI, *scores, sample=GRASS).values) == {"accuracy": value}


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ((), "of 0 continuations, expected 3"),
        (((-1.0, 1),) * 2, "of 2 continuations, expected 3"),
        (((-1.0, 1),) * 4, "of 4 continuations, expected 3"),
        (((-1.0, 1), (float("nan"), 1), (-1.0, 1)), "not a finite number"),
        (((-1.0, 1), (float("-inf"), 1), (-1.0, 1)), "not a finite number"),
        (((-1.0, 0), (-1.0, 1), (-1.0, 1)), "how many tokens"),
    ],
)
def test_what_cannot_be_judged_is_unscored_with_its_reason(scores, says):
    found = judged(BY_TEXT, *scores)
    assert (found.state, dict(found.values)) == ("unscored", {})
    assert says in found.reason


@pytest.mark.parametrize("name", ["arc", "mmlu", "general_mcq", "starter_mcq"])
def test_the_modes_declare_what_they_need_of_an_endpoint(name):
    benchmark = registry.get(name)
    assert benchmark.needs("chat") == Needs(name, "chat")
    assert benchmark.needs("completion", 7) == Needs(name, "completion", context_tokens=7)
    for mode in ("loglikelihood", "pmi"):
        chosen = benchmark.for_spec(BenchmarkSpec(name, extra={"mode": mode}))
        assert chosen.needs("chat") == Needs(name, "loglikelihood", logprobs=True)
    assert benchmark.for_spec(BenchmarkSpec(name, extra={"mode": "generate"})) == benchmark


def test_other_needs_are_the_benchmarks_own():
    benchmark = dataclasses.replace(registry.get("arc"), modalities=frozenset({"image", "audio"}), tools=True)
    assert benchmark.needs("chat") == Needs("arc", "chat", frozenset({"image", "audio"}), tools=True)


@pytest.mark.parametrize(
    ("name", "extra", "says"),
    [
        ("arc", {"mode": "loglikelyhood"}, "is not a way to ask arc. Did you mean 'loglikelihood'"),
        ("arc", {"mode": ["pmi"]}, "is not a way to ask arc"),
        ("arc", {"mode": "pmi", "modes": 1}, "benchmarks.arc.modes = 1 is not a setting"),
        ("gsm8k", {"mode": "loglikelihood"}, "benchmarks.gsm8k.mode = 'loglikelihood' is not a setting"),
    ],
)
def test_a_mode_that_is_not_there_is_refused(name, extra, says):
    with pytest.raises(InvalidInput) as caught:
        validate_spec(registry.get(name), BenchmarkSpec(name, extra=extra))
    assert says in caught.value.message
