"""Which option a completion settles on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.choice import extract_choice, score_choice

CITIES = ("Paris", "Rome", "A dog", "42 km.")


def answer(text: str, labels: str = "ABCD", choices: tuple[str, ...] = CITIES) -> str | None:
    found = extract_choice(text, labels, choices)
    return None if found is None else found.answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("$B$", "B"),
        ("\\boxed{B}", "B"),
        ("A", "A"),
        ("ANSWER: B", "B"),
        ("**ANSWER: B**", "B"),
        ("Answer: (b)", "B"),
        ("answer: b", "B"),
        ("Answer: $\\text{B}$", "B"),
        ("ANSWER: $B$", "B"),
        ("**Answer:** [B]", "B"),
        ("Answer: **B) Rome**", "B"),
        ("ANSWER: B. Rome", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (B) Rome.", "B"),
        ("The answer is option B", "B"),
        ("The answer is: \\(\\boxed{\\text{B}}\\)", "B"),
        ("The correct option is B because it is.", "B"),
        ("ANSWER: A\n\nNo wait.\n\nANSWER: B", "B"),
        ("Answer\n\nB", "B"),
        ("Final answer: **B**", "B"),
        ("The answer is A.", "A"),
        ("The answer is A because it is.", "A"),
        ("The answer is Rome.", "B"),
        ("ANSWER: Rome", "B"),
        ("Rome", "B"),
        ("rome.", "B"),
        ("\\boxed{Rome}", "B"),
        ("A dog", "C"),
        ("42 km", "D"),
        ("ANSWER: A dog", "C"),
        ("\\boxed{42 \\text{ km}}", "D"),
        ("Let me see.\n\nRome", "B"),
        ("B) Rome", "B"),
        ("B. Rome, since it is in Italy.", "B"),
        ("(B) Rome", "B"),
        ("B: Rome", "B"),
        ("- B) Rome", "B"),
        ("I would go with (B).", "B"),
        ("(A) is wrong. So I choose (B)", "B"),
        ("It must be B", "B"),
        ("So **B**.", "B"),
        ("A) Paris\nB) Rome\nC) A dog\nD) 42 km\nI choose B", "B"),
        ("C is wrong, so B is the correct one.", "B"),
        ("I pick B here, clearly", "B"),
        ("<think>ANSWER: C</think>\n\nANSWER: B", "B"),
        ("<think>C or B", None),
        ("ANSWER: B</s>", "B"),
        ("答案\uff1aB", "B"),
        ("所以答案是B。", "B"),
        ("答案选 B", "B"),
        ("One could stop at C here.\n\n**B) Rome**", "B"),
        ("A) Paris\nB) Rome\nC) A dog\nD) 42 km\n\nThinking it over:\n\n**B) Rome**", "B"),
        ("At first sight C looks tempting.\n\n**B**", "B"),
        ("At first sight C looks tempting. The correct option is: Rome", "B"),
        ("At first sight C looks tempting. The answer is B) Rome", "B"),
        ("Answer: The correct option is (B).", "B"),
        ("The correct answer is:\n\nB) Rome", "B"),
        ("ANSWER: B) because A and C are wrong", "B"),
    ],
)
def test_settled_letters_are_found(text, letter):
    assert answer(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "Default output",
        "A cat sat there",
        "It is a matter of taste",
        "I am not sure",
        "An answer cannot be given",
        "The answer is a difficult one to give",
        "ANSWER: unknown",
        "Because Definite Claims Bind",
        "E",
        "(E)",
        "B or C",
        "ANSWER: B or C",
        "ANSWER: A, B",
        "A) Paris\nB) Rome\nC) A dog\nD) 42 km",
        "D'Artagnan",
        "vitamin B12",
        "C++",
        "A.D. 70",
        "<think>ANSWER: B",
        "A nice city is what I prefer",
        "Answer: Definitely Rome or Paris",
    ],
)
def test_no_letter_is_made_up(text):
    assert answer(text) is None


def test_the_pronoun_is_not_the_ninth_option():
    assert answer("I think so", labels="ABCDEFGHIJ", choices=()) is None
    assert answer("ANSWER: I", labels="ABCDEFGHIJ", choices=()) == "I"
    assert answer("ANSWER: J", labels="ABCDEFGHIJ", choices=()) == "J"


def test_an_option_that_starts_with_a_letter_is_that_option():
    keys = ("D minor", "C major", "B flat")
    assert answer("ANSWER: C major", labels="ABC", choices=keys) == "B"
    assert answer("ANSWER: C", labels="ABC", choices=keys) == "C"


def test_equal_option_texts_are_ambiguous():
    assert answer("Rome", labels="AB", choices=("Rome", "rome")) is None


@pytest.mark.parametrize(("text", "value"), [("ANSWER: B", 1.0), ("ANSWER: D", 1.0), ("ANSWER: C", 0.0), ("?", 0.0)])
def test_scores(text, value):
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=("B", "D"), choices=CITIES)
    score = score_choice(sample, Completion(sample_id="d/0", repeat=1, digest="", text=text, finish_reason="length"))
    assert (score.values, score.repeat, score.state) == ({"accuracy": value}, 1, "scored")
    if text == "?":
        assert "token limit" in (score.explanation or "")


_FRAMES = (
    "{}",
    "ANSWER: {}",
    "Thus the answer is {}",
    "Paris is in France.\n\n**Answer:** {}\n",
    "<think>(C)?</think>{}",
    "\\boxed{{{}}}",
    "I choose {}",
)
_DRESSINGS = ("{}", "({})", "**{}**", "{}.", "$\\text{{{}}}$", "**({})**", "[{}]")


@given(letter=st.sampled_from("ABCDEFGHJ"), frame=st.sampled_from(_FRAMES), dressing=st.sampled_from(_DRESSINGS))
def test_any_dressing_of_a_letter_is_that_letter(letter, frame, dressing):
    assert answer(frame.format(dressing.format(letter)), labels="ABCDEFGHIJ", choices=()) == letter


@given(st.text(alphabet="abcdefghijk lmnop qrstuvwxyz", max_size=80))
def test_lower_case_prose_names_no_option(text):
    found = answer(f"x{text}x yy", choices=())
    assert found is None or "answer" in text


@given(st.text(max_size=200))
def test_no_text_breaks_the_search(text):
    assert answer(text) in {None, "A", "B", "C", "D"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("(∀x)Px", "(∃x)Px"),
        ("p ∧ q", "p ∨ q"),  # noqa: RUF001
        ("{1, 2}", "(1, 2)"),
        ("a & b", "a | b"),
        ("x > 0?", "x > 0!"),
        ("¬p", "p"),
        ("A ⊂ B", "A ⊃ B"),
    ],
)
@pytest.mark.parametrize(
    "reply", ["So.\n\n**{letter}) {text}**", "So.\n\n{letter}. {text}", "The answer is: {text}", "{text}"]
)
def test_options_that_differ_in_signs_alone_are_told_apart(first, second, reply):
    assert answer(reply.format(letter="A", text=first), choices=(first, second, "none", "both")) == "A"
    assert answer(reply.format(letter="B", text=first), choices=(second, first, "none", "both")) == "B"
