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
BY_TEXT = BenchmarkSpec("arc", extra={"scoring": "loglikelihood"})
BY_PMI = BenchmarkSpec("arc", extra={"scoring": "pmi"})


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


@pytest.mark.parametrize(("scoring", "neutral"), [("pmi", "Answer:"), ("mutual_info", "")])
def test_for_pmi_every_option_follows_the_question_and_neutral_words(scoring, neutral):
    one = planned(BenchmarkSpec("arc", extra={"scoring": scoring}), GRASS)
    assert one.prompt == ""
    assert one.contexts == ("Question: And grass?\nAnswer:",) * 2 + (neutral,) * 2
    assert one.continuations == (" green", " blue", " green", " blue")


def test_mmlu_is_asked_for_letters_after_words_on_its_subject():
    spec = BenchmarkSpec("mmlu", extra={"scoring": "loglikelihood"})
    benchmark = registry.get("mmlu").for_spec(spec)
    sky, grass = (dataclasses.replace(one, subset="abstract_algebra") for one in (SKY, GRASS))
    one = render(benchmark, benchmark.prompt_settings(spec, (grass,)), sky)
    assert one.prompt == (
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
        "And grass?\nA. green\nB. blue\nAnswer: A\n\n"
        "What colour is the sky?\nA. green\nB. blue\nC. a colour of the rainbow\nAnswer:"
    )
    assert one.continuations == (" A", " B", " C")


SURGEON = Sample("w/0", 0, "w", "Ann was better than Eve so _ got the easier cases.", ("B",), ("Ann", "Eve"))
BLANK = BenchmarkSpec("winogrande", extra={"scoring": "loglikelihood"})


def test_an_option_in_a_blank_is_judged_by_what_follows():
    benchmark = registry.get("winogrande").for_spec(BLANK)
    (alone, solved) = (
        render(benchmark, benchmark.prompt_settings(BLANK, shots), SURGEON) for shots in ((), (SURGEON,))
    )
    before = "Ann was better than Eve so "
    end = " got the easier cases."
    assert (alone.prompt, alone.contexts) == ("", (f"{before}Ann", f"{before}Eve"))
    assert alone.continuations == (end, end)
    assert (solved.prompt, solved.contexts) == (f"{before}Eve{end}\n\n", alone.contexts)
    judged_ = Completion("w/0", 0, "", continuations=(ContinuationScore(-9.0, 3), ContinuationScore(-8.5, 3)))
    found = benchmark.shape.score_fast(SURGEON, judged_)
    assert (dict(found.values), found.answer) == ({"accuracy": 1.0}, "B")
    assert [one.name for one in benchmark.metrics] == ["acc"]


# (sum, tokens) per option; accuracy, acc_norm, acc_norm_tokens. The options of SKY have 5, 4 and 23 characters.
ORACLE = [
    (((-3.0, 1), (-1.0, 1), (-9.0, 5)), "B", (1, 1, 1)),
    # the long option wins by length alone: -4/23 per character, -4/5 per token
    (((-3.0, 1), (-1.5, 1), (-4.0, 5)), "B", (1, 0, 0)),
    # the right one is right per character (-2/4 = -0.5 against -0.6 and -1), not by its sum
    (((-3.0, 3), (-2.0, 1), (-1.9, 1)), "C", (0, 0, 0)),
    (((-1.9, 1), (-2.0, 4), (-23.0, 10)), "A", (0, 0, 1)),
    (((-1.9, 1), (-1.0, 1), (-23.0, 10)), "B", (1, 1, 1)),
    # 5 characters at -2.6 are -0.52 each, 4 at -2.0 -0.5
    (((-2.6, 2), (-2.0, 1), (-23.0, 4)), "B", (1, 1, 0)),
    # equal: the first counts as chosen
    (((-1.0, 1), (-1.0, 1), (-1.0, 1)), "A", (0, 0, 0)),
    (((0.0, 1), (0.0, 1), (-1.0, 1)), "A", (0, 0, 0)),
]


@pytest.mark.parametrize(("scores", "answer", "expected"), ORACLE)
def test_the_oracle(scores, answer, expected):
    found = judged(BY_TEXT, *scores)
    assert (found.state, found.answer, found.extractor) == ("scored", answer, "loglikelihood")
    assert found.values["acc_bytes"] == found.values["acc_norm"]
    values = [found.values[name] for name in ("accuracy", "acc_norm", "acc_norm_tokens")]
    assert values == list(expected)


def test_bytes_and_characters_differ_outside_ascii():
    sample = dataclasses.replace(SKY, choices=("blau", "\u84dd\u8272"), target=("A",))
    # per character -0.5 and -0.75, per byte -0.5 and -0.25
    found = judged(BY_TEXT, (-2.0, 1), (-1.5, 1), sample=sample)
    assert (found.values["acc_norm"], found.values["acc_bytes"]) == (1, 0)


def test_letters_are_all_of_one_length():
    # The options have 5, 4 and 23 characters, and what was judged is two bytes for each.
    found = judged(BY_TEXT, (-3.0, 1, 2), (-1.5, 1, 2), (-4.0, 1, 2))
    assert dict(found.values) == dict.fromkeys(("accuracy", "acc_norm", "acc_bytes", "acc_norm_tokens"), 1.0)


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


@pytest.mark.parametrize("name", ["arc", "hellaswag", "mmlu", "general_mcq", "starter_mcq"])
def test_the_modes_declare_what_they_need_of_an_endpoint(name):
    benchmark = registry.get(name)
    assert benchmark.needs("chat") == Needs(name, "chat")
    assert benchmark.needs("completion", 7) == Needs(name, "completion", context_tokens=7)
    for scoring in ("loglikelihood", "pmi", "mutual_info"):
        chosen = benchmark.for_spec(BenchmarkSpec(name, extra={"scoring": scoring}))
        assert chosen.needs("chat") == Needs(name, "loglikelihood", logprobs=True)
        assert chosen.needs("chat", 4096) == chosen.needs("chat"), (
            "nothing is written that a context would have to hold"
        )
    assert benchmark.for_spec(BenchmarkSpec(name, extra={"scoring": "generate"})) == benchmark
    # A run of before called it so, and goes on as it was.
    older = BenchmarkSpec(name, extra={"mode": "pmi"})
    assert benchmark.for_spec(older) == benchmark.for_spec(BenchmarkSpec(name, extra={"scoring": "pmi"}))


def test_other_needs_are_the_benchmarks_own():
    benchmark = dataclasses.replace(registry.get("arc"), modalities=frozenset({"image", "audio"}), tools=True)
    assert benchmark.needs("chat") == Needs("arc", "chat", frozenset({"image", "audio"}), tools=True)


@pytest.mark.parametrize(
    ("name", "extra", "says"),
    [
        ("arc", {"scoring": "loglikelyhood"}, "is not a way to ask arc. Did you mean 'loglikelihood'"),
        ("arc", {"scoring": ["pmi"]}, "is not a way to ask arc"),
        ("arc", {"scoring": "pmi", "modes": 1}, "benchmarks.arc.modes = 1 is not a setting"),
        ("arc", {"scoring": "pmi", "mode": "pmi"}, "benchmarks.arc.mode = 'pmi' is not a setting"),
        ("gsm8k", {"scoring": "loglikelihood"}, "benchmarks.gsm8k.scoring = 'loglikelihood' is not a setting"),
        ("winogrande", {"scoring": "pmi"}, "is not a way to ask winogrande"),
    ],
)
def test_a_mode_that_is_not_there_is_refused(name, extra, says):
    with pytest.raises(InvalidInput) as caught:
        validate_spec(registry.get(name), BenchmarkSpec(name, extra=extra))
    assert says in caught.value.message
