"""What settles on an option and what does not, for every label in turn: no label may be read unlike another."""

import re
from pathlib import Path

import pytest

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.choice import extract_choice, score_choice

LABELS = "ABCDEFGHIJ"
METALS = ("tin", "lead", "zinc", "iron", "gold", "silver", "copper", "nickel", "cobalt", "platinum")


def read(text: str, labels: str = LABELS, choices: tuple[str, ...] = METALS, *, cut: bool = False) -> str | None:
    found = extract_choice(text, labels, choices, cut=cut)
    return None if found is None else found.answer


def readings(form: str, labels: str = LABELS, choices: tuple[str, ...] = METALS) -> dict[str, str | None]:
    """What is read for each label."""
    rings = {label: (labels[i - 1], labels[i - 2]) for i, label in enumerate(labels)}
    return {
        label: read(
            form.format(X=label, x=label.lower(), W=chr(ord(label) + 0xFEE0), Y=others[0], Z=others[1]), labels, choices
        )
        for label, others in rings.items()
    }


def forms(section: str) -> list[str]:
    r"""The replies of a section of choice_forms.txt; `\n` there is a new line."""
    text = (Path(__file__).parent / "choice_forms.txt").read_text(encoding="utf-8")
    lines = text.partition(f"[{section}]\n")[2].partition("\n\n")[0].splitlines()
    return [re.sub(r"\\n(?![a-z])", "\n", line) for line in lines]


@pytest.mark.parametrize("form", forms("settled"))
def test_a_settled_answer_is_read_for_every_label(form):
    assert readings(form) == {label: label for label in LABELS}


@pytest.mark.parametrize("form", forms("unsettled"))
def test_what_is_denied_open_or_mentioned_is_no_answer_for_any_label(form):
    assert readings(form) == dict.fromkeys(LABELS)


def test_all_letters_of_the_alphabet_may_be_labels():
    labels = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    options = tuple(f"plan {number}" for number in range(26))
    for form in ("ANSWER: {X}", "The answer is ({X}).", "故选{X}。", "It is {X}."):
        assert readings(form, labels, options) == {label: label for label in labels}
    assert read("ANSWER: E", "ABCD", METALS[:4]) is None


@pytest.mark.parametrize(
    "text",
    [
        "ANSWER: none of the above",
        "The correct answer is none of these.",
        "I cannot answer.",
        "Sorry, I can't say. A",
        "以上都不对。",
        "没有正确答案",
        "我无法回答",
        "わかりません。",
        "モ: 該当する選択肢がありません。",
        "모르겠습니다.",
        "Answer: A? No, none of the options is right.",
        "The answer is B. Wait, none of the options is right.",
    ],
)
def test_an_explicit_none_ends_the_search(text):
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("None of the above", "None of the above"),
        ("The answer is none of the above.", "None of the above"),
        ("None of these options is correct.", "None of these"),
        ("The answer cannot be determined.", "Cannot be determined"),
        ("答案是以上都不对。", "以上都不对"),
    ],
)
def test_none_is_an_answer_where_an_option_says_so(text, option):
    assert read(text, "ABCD", ("tin", "lead", "zinc", option)) == "D"


VITAMINS = ("vitamin C", "vitamin D", "vitamin A", "vitamin K")


@pytest.mark.parametrize(
    ("text", "choices", "letter"),
    [
        ("It comes from too little vitamin C.", VITAMINS, "A"),
        ("The answer is vitamin A.", VITAMINS, "C"),
        ("The answer is vitamin C.", ("vitamin C (ascorbic acid)", "vitamin D", "vitamin A", "vitamin K"), "A"),
        ("It comes from too little vitamin C.", METALS[:4], None),
        ("ANSWER: C", VITAMINS, "C"),
        ("It is B flat.", ("D minor", "C major", "B flat", "A minor"), "C"),
        ("The answer is A minor, since it has no sharps.", ("D minor", "C major", "B flat", "A minor"), "D"),
        ("答案是A型。", ("B型", "A型", "AB型", "O型"), "B"),
        ("答案是维生素C。", ("维生素C", "维生素D", "维生素A", "维生素K"), "A"),
        ("The answer is B) FALSE", ("Undefined", "FALSE", "TRUE", "Both"), "B"),
        ("B) False", ("true", "false"), "B"),
        ("ANSWER: B) No", ("yes", "no"), "B"),
        ("Answer: A. Why not?", ("Why not?", "Not now."), "A"),
        ("ANSWER: A. C", ("C", "D", "A", "B"), "A"),
        ("ANSWER: B) Wrong or C) right", ("both", "wrong", "right"), None),
        ("ANSWER: B lead", METALS[:4], "B"),
        ("ANSWER: lead (B)", METALS[:4], "B"),
        ('{"answer": "lead"}', METALS[:4], "B"),
        ("<answer>B) lead</answer>", METALS[:4], "B"),
        ("It is lead.", METALS[:4], "B"),
        ("The answer is lead, not tin.", METALS[:4], "B"),
        ("The answer is not lead.", METALS[:4], None),
        ("The answer is lead or tin.", METALS[:4], None),
        ("ANSWER: B. lead or C. zinc", METALS[:4], None),
    ],
)
def test_the_text_of_an_option_wins_over_a_letter_in_it(text, choices, letter):
    assert read(text, "ABCD"[: len(choices)], choices) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("Lead is dense.\n\nANSWER: B", "B"),
        ("The answer is \\boxed{B}, which", "B"),
        ("The correct option is B because lead", "B"),
        ("I would choose B.", None),
        ("B. It is dense.", None),
        ("It must be B", None),
        ("Lead is dense.\n\n**B**", None),
    ],
)
def test_a_completion_cut_at_its_token_limit_is_not_guessed_at(text, letter):
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=("B",), choices=METALS[:4])
    completion = Completion(sample_id="d/0", repeat=1, digest="", text=text, finish_reason="length")
    score = score_choice(sample, completion)
    assert score.answer == letter
    assert ("token limit" in (score.explanation or "")) is (letter is None)
