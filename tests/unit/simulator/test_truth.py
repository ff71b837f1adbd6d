"""Who is recognised, who is right, and that every correct scorer sees it the same way."""

import random
from string import ascii_uppercase

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import PromptSettings
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.sample import Sample
from evalmesh.simulator.brain import Brain
from evalmesh.simulator.catalog import load_known
from evalmesh.simulator.knowledge import Knowledge
from evalmesh.simulator.render import Limits, Style
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.skill import KnownSample, Skill, expected_right, is_right
from evalmesh.simulator.tokens import count_tokens, tokenize


def known(sample_id, text, target, choices=(), benchmark="made"):
    return KnownSample(benchmark, Sample(sample_id, 0, "main", text, (target,), choices))


def mcq(sample_id, text, target, *choices):
    return known(sample_id, text, target, choices)


def lettered(text, choices, style="{})"):
    return text + "\n\n" + "\n".join(f"{style.format(ascii_uppercase[i])} {c}" for i, c in enumerate(choices))


def test_expected_score_is_known_before_anything_is_asked():
    samples = [known(f"main/{i}", f"question number {i}?", "1") for i in range(2000)]
    skill = Skill(seed=7, default=0.75, by_benchmark={"hard": 0.0, "easy": 1.0})
    n_right = sum(is_right(skill, "made", s.sample.id) for s in samples)
    assert expected_right(skill, samples) == n_right
    assert abs(n_right / 2000 - 0.75) < 0.03
    assert not any(is_right(skill, "hard", s.sample.id) for s in samples)
    assert all(is_right(skill, "easy", s.sample.id, 5) for s in samples)


def test_outcomes_depend_on_seeds_and_on_nothing_else():
    skill = Skill(seed=1)
    first = [is_right(skill, "gsm8k", f"main/{i}", 3) for i in range(200)]
    assert first == [is_right(Skill(seed=1), "gsm8k", f"main/{i}", 3) for i in range(200)]
    assert first != [is_right(skill, "gsm8k", f"main/{i}", 4) for i in range(200)]
    assert is_right(skill, "gsm8k", "main/0", None) == is_right(skill, "gsm8k", "main/0", 0)
    # Pinned, because reports of earlier versions must stay comparable.
    assert [is_right(Skill(seed=0), "gsm8k", f"main/{i}") for i in range(12)] == PINNED


PINNED = [True, True, True, False, True, False, True, True, True, True, True, True]


def test_a_skill_that_is_no_probability_is_refused():
    with pytest.raises(InvalidInput, match=r"gsm8k is 1\.5"):
        Skill(by_benchmark={"gsm8k": 1.5})


def test_the_last_question_in_the_text_is_the_one_asked():
    a, b = known("a", "How many apples are in the big red basket?", "3"), known("b", "How far is it?", "4")
    knowledge = Knowledge([a, b])
    prompt = f"Solve.\n\nQuestion: {b.sample.input}\nAnswer: 4\n\nQuestion: {a.sample.input}\nAnswer:"
    assert knowledge.match(prompt).known is a
    assert knowledge.match(f"Q: {a.sample.input} A: 3 Q: {b.sample.input} A:").known is b
    assert knowledge.match("How many pears are in the big red basket?") is None


def test_a_question_that_ends_another_one_is_not_mistaken_for_it():
    short, long = known("s", "How far is it?", "1"), known("l", "Ann walks home. How far is it?", "2")
    knowledge = Knowledge([short, long])
    assert knowledge.match("Ann walks home. How far is it?\n\nThink first.").known is long
    assert knowledge.match("Bob rides. How far is it?\n\nThink first.").known is short


def test_questions_of_several_lines_and_of_one_character_are_found():
    lines = known("m", "Read this:\n\n  x = 1\n  y = 2\n\nWhat is x + y?", "3")
    tiny = known("t", "2+2", "4")
    knowledge = Knowledge([lines, tiny])
    assert knowledge.match(f"Q: {lines.sample.input}\nA:").known is lines
    assert knowledge.match("Compute: 2+2\n").known is tiny


def test_equal_questions_are_told_apart_by_their_options():
    one = mcq("1", "Which of these is true?", "A", "Iron floats", "Gold rusts", "Tin sinks", "Lead melts")
    two = mcq("2", "Which of these is true?", "D", "Snow is hot", "Ice is cold", "Rain is dry", "Fog is thin")
    knowledge = Knowledge([one, two])
    for sample in (one, two):
        match = knowledge.match(lettered(sample.sample.input, sample.sample.choices) + "\n\nAnswer:")
        assert match.known is sample
        assert match.letters == ("A", "B", "C", "D")
    assert knowledge.match(lettered("Which of these is true?", ["x", "y", "z", "w"])) is None


@pytest.mark.parametrize("style", ["{})", "{}.", "({})", "{}:", "**{}**", "[{}]"])
def test_shuffled_options_move_the_letter(style):
    sample = mcq("1", "Which gas do plants take in?", "C", "Helium", "Neon", "Carbon dioxide", "Carbon")
    shuffled = ["Carbon", "Carbon dioxide", "Helium", "Neon"]
    match = Knowledge([sample]).match(lettered(sample.sample.input, shuffled, style) + "\n")
    assert match.letters == ("C", "D", "B", "A")


def test_options_on_one_line_are_read_too():
    sample = mcq("1", "Which one is a metal?", "B", "Oak wood", "Iron", "Clay")
    match = Knowledge([sample]).match("Which one is a metal? A) Clay B) Oak wood C) Iron")
    assert match.letters == ("B", "C", "A")


def test_a_question_that_is_the_option_of_another_is_not_mistaken_for_it():
    bone = mcq("1", "Cells that build bone are called", "A", "Osteoblasts", "Osteocytes", "Fibroblasts", "Osteoclasts")
    clast = mcq("2", "Osteoclasts", "B", "build bone", "break down bone", "make blood", "store fat")
    knowledge = Knowledge([bone, clast])
    for sample in (bone, clast):
        assert knowledge.match(lettered(sample.sample.input, sample.sample.choices)).known is sample
    assert knowledge.match(f"Q: {bone.sample.input}\nA: Osteoclasts").known is bone


def test_twins_are_decided_once_and_expected_exactly():
    twins = [known("x", "The same question twice?", "5"), known("y", "The same question twice?", "5")]
    odd = known("z", "The same question twice?", "6")
    skill = Skill(default=1.0)
    assert Knowledge(twins).expected_right(skill) == 2
    knowledge = Knowledge([*twins, odd])
    assert knowledge.expected_right(skill) == 2
    match = knowledge.match("The same question twice?")
    assert (match.known.sample.id, match.copies, match.contested) == ("x", 3, True)


STARTERS = ("starter_math", "starter_mcq")


@pytest.fixture(scope="module")
def starters():
    return load_known(STARTERS)


def score(benchmark, sample, reply):
    completion = Completion(
        sample_id=sample.id, repeat=0, digest="", text=reply.text, finish_reason=reply.finish_reason
    )
    shape = benchmark.shape
    result = shape.score_fast(sample, completion) or shape.score(sample, completion)
    return next(iter(result.values.values())), result


def ask(known_sample, request_settings):
    benchmark = registry.get(known_sample.benchmark)
    prompt = benchmark.shape.render(known_sample.sample, request_settings(benchmark))
    return benchmark, "\n".join(message.content for message in prompt.messages)


def plain_settings(benchmark):
    return PromptSettings(template=benchmark.template or benchmark.shape.template)


@pytest.mark.parametrize("awkwardness", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_scorers_see_every_wording_as_it_was_meant(starters, awkwardness, skill):
    settings = SimulatorSettings(skill=Skill(default=skill), style=Style(awkwardness))
    brain = Brain(settings, Knowledge(starters))
    for known_sample in starters:
        benchmark, text = ask(known_sample, plain_settings)
        question = brain.understand(text)
        assert question.match is not None
        assert question.match.known == known_sample
        for seed in range(8):
            reply = brain.reply(question, seed, Limits())
            value, result = score(benchmark, known_sample.sample, reply)
            assert value == skill, (known_sample.sample, reply, result)


def test_few_shot_prompts_are_recognised_with_shots_from_the_same_rows(starters):
    knowledge = Knowledge(starters)
    rng = random.Random(1)
    for known_sample in starters:
        same = [k.sample for k in starters if k.benchmark == known_sample.benchmark and k != known_sample]
        shots = tuple(rng.sample(same, 3))

        def with_shots(benchmark, shots=shots):
            return PromptSettings(template=benchmark.template or benchmark.shape.template, shots=shots)

        _, text = ask(known_sample, with_shots)
        assert knowledge.match(text).known == known_sample


@pytest.mark.parametrize("max_tokens", [1, 2, 5, 20, 60])
def test_a_reply_that_is_cut_never_looks_right_when_it_is_counted_wrong(starters, max_tokens):
    brain = Brain(SimulatorSettings(skill=Skill(default=1.0), style=Style(1.0)), Knowledge(starters))
    for known_sample in starters:
        benchmark, text = ask(known_sample, plain_settings)
        reply = brain.reply(brain.understand(text), 0, Limits(max_tokens=max_tokens, stop=("\n",)))
        assert count_tokens(reply.text) <= max_tokens
        assert "\n" not in reply.text
        value, result = score(benchmark, known_sample.sample, reply)
        assert value == (reply.outcome == "right"), (reply, result)
        assert reply.cut == (reply.outcome == "wrong")


def test_replies_have_the_length_asked_for_and_stay_right(starters):
    brain = Brain(SimulatorSettings(skill=Skill(default=1.0)), Knowledge(starters))
    for known_sample in starters[:60]:
        benchmark, text = ask(known_sample, plain_settings)
        reply = brain.reply(brain.understand(text), 0, Limits(max_tokens=200, exact_tokens=200))
        assert count_tokens(reply.text) == 200
        assert score(benchmark, known_sample.sample, reply)[0] == 1.0


def test_tokens_tile_the_text():
    text = "  Well, 1,234.50\n\n\tdollars \\boxed{7}  \n"
    assert "".join(tokenize(text)) == text
    assert count_tokens(text) == len(tokenize(text))
    assert tokenize("a b") == ["a", " b"]
