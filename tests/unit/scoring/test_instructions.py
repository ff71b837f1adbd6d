"""The 25 kinds of instructions, each followed and not; sentences, words and languages as they are counted."""

import subprocess
import sys

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample
from evalmesh.scoring.instruction_following import is_quick, score_instructions
from evalmesh.scoring.instructions.checks import CHECKS
from evalmesh.scoring.instructions.english import count_capital_words, count_sentences
from evalmesh.scoring.instructions.languages import language_of

AT_LEAST, LESS = "at least", "less than"
# Instruction, arguments, what follows it, what does not.
ORACLE = [
    (
        "change_case:capital_word_frequency",
        {"capital_relation": AT_LEAST, "capital_frequency": 3},
        ["I SAY: NO-ONE", "DON'T go, BOB"],
        ["I say NO", "a b c", "It's ABOUT"],
    ),
    ("change_case:english_capital", {}, ["THIS IS THE WAY."], ["This IS IT.", "DAS IST NICHT DER WEG, UND ICH AUCH"]),
    ("change_case:english_lowercase", {}, ["this is the way. 1!"], ["This is it.", "das ist nicht der weg, und ich"]),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem. "},
        ["  write a POEM.\n\nRoses"],
        ["Here: Write a poem.", "Roses"],
    ),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b"],
        ["a", "a******a", "a******b******c", "a****** ******b"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[a] and [b c]", "[][]"],
        ["[a]", "[a\n] [b]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye\nP.S. one", "p. s. x"],
        ["PS: one", "P.P. S"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S more", "p. p. s."], ["P.S. one"]),
    (
        "detectable_format:constrained_response",
        {},
        ["So: My answer is no. Yes."],
        ["My answer is no", "my answer is no."],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1]}', '```json\n{"a": 1}\n```', "3"],
        ["{a: 1}", 'Here: {"a": 1}', "[" * 100_000],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\nx\nSection 2\ny", "Section1 Section2 Section3"],
        ["Section 1\nx\nsection 2", "Section A Section B"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n- b", " * a\n  * b"],
        ["* a", "* a\n* b\n- c", "**a**\n1. b"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b c*", "**a** b *c*"],
        ["*a*", "* a\n* b", "** **"],
    ),
    ("detectable_format:title", {}, ["<<A poem>>\nx", "x <<<<y>>"], ["<<>>", "< <a> >", "<<a\nb>>"]),
    ("keywords:existence", {"keywords": ["sea", "Ship"]}, ["A ship at SEA", "seasons, shipped"], ["A ship"]),
    ("keywords:forbidden_words", {"forbidden_words": ["sea", "ship"]}, ["seasons, shipped"], ["The Sea."]),
    ("keywords:frequency", {"relation": AT_LEAST, "keyword": "sea", "frequency": 2}, ["Sea, seasons"], ["sea"]),
    ("keywords:frequency", {"relation": LESS, "keyword": "sea", "frequency": 2}, ["sea", "x"], ["Sea, seasons"]),
    ("keywords:letter_frequency", {"let_relation": AT_LEAST, "letter": "A", "let_frequency": 2}, ["Anna"], ["an"]),
    ("keywords:letter_frequency", {"let_relation": LESS, "letter": "!", "let_frequency": 2}, ["Hi!"], ["Hi!!"]),
    (
        "language:response_language",
        {"language": "de"},
        ["Das ist nicht der Weg, und ich gehe auch nicht.", "1 + 1"],
        ["It is the way."],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"first_word": "Once", "num_paragraphs": 2, "nth_paragraph": 2},
        ["a\n\nonce, b", "a\n\n\"Once's b"],
        ["a", "once\n\nb", "a\n\nonce\n\nb", "a\n\n\n\nonce"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "***\na *** b"],
        ["a\n\nb", "a *** *** b", "a***b***c"],
    ),
    ("length_constraints:number_sentences", {"relation": AT_LEAST, "num_sentences": 2}, ["Hi! You."], ["Hi. "]),
    ("length_constraints:number_sentences", {"relation": LESS, "num_sentences": 2}, ["Hi"], ["Hi? You"]),
    (
        "length_constraints:number_words",
        {"relation": AT_LEAST, "num_words": 4},
        ["it's a dog", "a-b c d"],
        ["it is so"],
    ),
    ("punctuation:no_comma", {}, ["a; b \N{FULLWIDTH COMMA} c"], ["a, b"]),
    ("startend:end_checker", {"end_phrase": "The end. "}, ['x "the END."\n'], ["The end. Or not"]),
    ("startend:quotation", {}, [' "a" '], ['"', "'a'", '"a" b']),
]
CASES = [(name, args, text, text in right) for name, args, right, wrong in ORACLE for text in (*right, *wrong)]


def sample(*wanted):
    return Sample("s", 0, "s", "q", (), reference=[{"id": name, "args": args} for name, args in wanted])


def score(*wanted, text):
    return score_instructions(sample(*wanted), Completion("s", 0, "", text=text))


def test_every_kind_is_in_the_oracle():
    assert {name for name, *_ in ORACLE} == set(CHECKS)
    assert len(CHECKS) == 25


@pytest.mark.parametrize(("name", "args", "text", "followed"), CASES)
def test_the_oracle(name, args, text, followed):
    assert set(args) == set(CHECKS[name][1])
    assert score((name, args), text=text).values["prompt_level_strict"] == followed


def test_a_prompt_is_followed_if_all_of_its_instructions_are():
    commas, title = ("punctuation:no_comma", {}), ("detectable_format:title", {})
    found = score(commas, title, text="no title here")
    assert dict(found.values) == {
        "prompt_level_strict": 0,
        "inst_level_strict": 0.5,
        "prompt_level_loose": 0,
        "inst_level_loose": 0.5,
        "instructions": 2,
    }
    assert found.explanation == "not followed: detectable_format:title"
    assert score(commas, title, text="<<all>>").explanation == "all followed"


@pytest.mark.parametrize(
    "text",
    ["Sure, here it is:\nmy answer", "my answer\nAnything else, friend?", "Sure, yes:\nmy answer\nBye, friend"],
)
def test_loose_forgives_the_first_and_the_last_line(text):
    found = score(("punctuation:no_comma", {}), text=text)
    assert (found.values["prompt_level_strict"], found.values["prompt_level_loose"]) == (0, 1)


def test_loose_forgives_asterisks_and_nothing_else():
    end = ("startend:end_checker", {"end_phrase": "bye"})
    assert score(end, text="**bye**").values["prompt_level_loose"] == 1
    assert score(end, text="_bye_").values["prompt_level_loose"] == 0


@pytest.mark.parametrize("text", ["", " \n ", "<think>no commas here</think>"])
def test_nothing_follows_no_instruction(text):
    found = score(("punctuation:no_comma", {}), text=text)
    assert (found.state, found.values["inst_level_loose"], found.answer) == ("scored", 0, None)


def test_thoughts_are_no_part_of_the_response():
    assert (
        score(("punctuation:no_comma", {}), text="<think>Well, no commas.</think>Yes").values["inst_level_strict"] == 1
    )


def test_pages_and_languages_are_not_scored_on_the_quick_path():
    commas, capitals = ("punctuation:no_comma", {}), ("change_case:english_capital", {})
    assert is_quick(sample(commas), Completion("s", 0, "", text="x" * 100))
    assert not is_quick(sample(commas), Completion("s", 0, "", text="x" * 100_000))
    assert not is_quick(sample(commas, capitals), Completion("s", 0, "", text="x" * 100))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One", 1),
        ("One. two", 2),  # whatever follows, a point ends
        ("One.\n- two\n- three", 2),  # a line break does not
        ("Dr. Who met Mr. Smith. Fine!", 2),
        ("At 5 p.m. we left. At 6 p.m. The bus came.", 3),
        ("J. Doe wrote it. It sold.", 2),
        ("1. First\n2. Second", 3),
        ("Well... maybe. Well... Maybe.", 3),
        ('He said "Go!" and went.', 2),
        ("He said \N{LEFT DOUBLE QUOTATION MARK}Go!\N{RIGHT DOUBLE QUOTATION MARK} and went.", 1),
        ("Really?! Yes.", 2),
        ("Pi is 3.14 or so. (Yes.)", 2),
    ],
)
def test_sentences(text, count):
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("I AM", 2),
        ("I'M", 2),
        ("CAN'T", 2),
        ("CANNOT", 2),
        ("**BIG** NEWS!", 2),
        ("A/B", 1),
        ("A1 1 2", 1),
        ("NASA,ESA", 2),
    ],
)
def test_capital_words(text, count):
    assert count_capital_words(text) == count


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It is what it is, and that was all of it."),
        ("de", "Das ist alles, was ich für dich tun kann."),
        ("sw", "Watu wa kijiji hiki ni wema sana na wanapenda kazi yao."),
        ("bg", "Това е всичко, което мога да направя за теб."),
        ("mr", "हे सर्व आहे आणि मी काही करू शकत नाही."),
        ("ur", "یہ سب کچھ ہے اور میں نہیں جانتا"),
        ("ja", "これは全部です。漢字もある。"),
        ("ko", "이것이 전부입니다."),
        ("pa", "ਇਹ ਸਭ ਹੈ"),
        (None, "1 + 1 = 2"),
    ],
)
def test_languages(language, text):
    assert language_of(text) == language


def test_a_text_between_two_languages_is_judged_alike_each_time_and_in_each_process():
    names = "1. EMMA\n2. LIAM\n3. ISABELLA\n4. NOAH"
    code = f"from {language_of.__module__} import language_of; print(language_of({names!r}))"
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert {one.stdout.strip() for one in told} == {language_of(names)}


def test_it_is_said_before_anything_is_asked_that_the_package_for_languages_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(InvalidInput) as caught:
        validate_spec(registry.get("ifeval"), BenchmarkSpec("ifeval"))
    assert caught.value.message == (
        "benchmarks.ifeval.name = 'ifeval' needs langdetect, which is not installed here: "
        "pip install 'evalmesh[ifeval]'."
    )
