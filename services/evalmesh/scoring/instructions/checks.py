r"""Whether a response follows an instruction that can be checked: the 25 kinds of IFEval.

Zhou et al., "Instruction-Following Evaluation for Large Language Models", arXiv:2311.07911, table of instructions. What
the paper leaves open is decided as its published verdicts have it: keywords are patterns and need no word borders
(forbidden words do), bullets begin with `*` or `-`, a highlight is `*x*` or `**x**`, paragraphs are parted by `***`
where they are counted and by an empty line where one of them is asked for.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from evalmesh.scoring.instructions.english import count_capital_words, count_sentences
from evalmesh.scoring.instructions.languages import language_of

Args = Mapping[str, Any]
Check = Callable[[str, Args], bool]

_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES = ("```json", "```Json", "```JSON", "```")
_FIRST_WORD_ENDS = re.compile(r"[.,?!'\"]")


def _compare(count: int, relation: str, wanted: int) -> bool:
    return count < wanted if relation == "less than" else count >= wanted


def _relation(name: str, wanted: str, count: Callable[[str, Args], int]) -> Check:
    """Compares a count with what the arguments say under these names."""
    return lambda text, args: _compare(count(text, args), args[name], int(args[wanted]))


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _forbidden(text: str, args: Args) -> bool:
    return not any(_found(rf"\b{word}\b", text) for word in args["forbidden_words"])


def _paragraphs(text: str, args: Args) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    inside = parts[1:-1]
    return all(inside) and sum(map(bool, parts)) == int(args["num_paragraphs"])


def _nth_paragraph(text: str, args: Args) -> bool:
    parts = text.split("\n\n")
    count, nth = sum(bool(part.strip()) for part in parts), int(args["nth_paragraph"])
    if nth > count or not (paragraph := parts[nth - 1].strip()):
        return False
    word = paragraph.split()[0].lstrip("'").lstrip('"')
    first = _FIRST_WORD_ENDS.split(word, maxsplit=1)[0].lower()
    return count == int(args["num_paragraphs"]) and first == str(args["first_word"]).lower()


def _postscript(text: str, args: Args) -> bool:
    marker = str(args["postscript_marker"])
    known = {"P.P.S": r"p\.\s?p\.\s?s.*$", "P.S.": r"p\.\s?s\..*$"}
    return re.search(known.get(marker, rf"{marker.lower()}.*$"), text.lower(), re.MULTILINE) is not None


def _bullets(text: str, args: Args) -> bool:
    found = re.findall(r"^\s*\*[^\*].*$|^\s*-.*$", text, re.MULTILINE)
    return len(found) == int(args["num_bullets"])


def _highlights(text: str, args: Args) -> bool:
    single = sum(bool(one.strip("*").strip()) for one in re.findall(r"\*[^\n\*]*\*", text))
    double = sum(bool(one[2:-2].strip()) for one in re.findall(r"\*\*[^\n\*]*\*\*", text))
    return single + double >= int(args["num_highlights"])


def _sections(text: str, args: Args) -> bool:
    return len(re.split(rf"\s?{args['section_spliter']}\s?\d+\s?", text)) > int(args["num_sections"])


def _json(text: str, _: Args) -> bool:
    text = text.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _: Args) -> bool:
    return any(one.lstrip("<").rstrip(">").strip() for one in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, _: Args) -> bool:
    parts = [part.strip() for part in text.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _is_english(text: str) -> bool:
    return language_of(text) in {"en", None}


CHECKS: Mapping[str, tuple[Check, tuple[str, ...]]] = {
    "change_case:capital_word_frequency": (
        _relation("capital_relation", "capital_frequency", lambda text, _: count_capital_words(text)),
        ("capital_relation", "capital_frequency"),
    ),
    "change_case:english_capital": (lambda text, _: text.isupper() and _is_english(text), ()),
    "change_case:english_lowercase": (lambda text, _: text.islower() and _is_english(text), ()),
    "combination:repeat_prompt": (
        lambda text, args: text.strip().lower().startswith(str(args["prompt_to_repeat"]).strip().lower()),
        ("prompt_to_repeat",),
    ),
    "combination:two_responses": (_two_responses, ()),
    "detectable_content:number_placeholders": (
        lambda text, args: len(re.findall(r"\[.*?\]", text)) >= int(args["num_placeholders"]),
        ("num_placeholders",),
    ),
    "detectable_content:postscript": (_postscript, ("postscript_marker",)),
    "detectable_format:constrained_response": (lambda text, _: any(one in text for one in _ANSWERS), ()),
    "detectable_format:json_format": (_json, ()),
    "detectable_format:multiple_sections": (_sections, ("section_spliter", "num_sections")),
    "detectable_format:number_bullet_lists": (_bullets, ("num_bullets",)),
    "detectable_format:number_highlighted_sections": (_highlights, ("num_highlights",)),
    "detectable_format:title": (_title, ()),
    "keywords:existence": (
        lambda text, args: all(_found(word, text) for word in args["keywords"]),
        ("keywords",),
    ),
    "keywords:forbidden_words": (_forbidden, ("forbidden_words",)),
    "keywords:frequency": (
        _relation("relation", "frequency", lambda text, args: len(re.findall(args["keyword"], text, re.IGNORECASE))),
        ("relation", "keyword", "frequency"),
    ),
    "keywords:letter_frequency": (
        _relation("let_relation", "let_frequency", lambda text, args: text.lower().count(str(args["letter"]).lower())),
        ("let_relation", "letter", "let_frequency"),
    ),
    "language:response_language": (
        lambda text, args: language_of(text) in {args["language"], None},
        ("language",),
    ),
    "length_constraints:nth_paragraph_first_word": (
        _nth_paragraph,
        ("first_word", "num_paragraphs", "nth_paragraph"),
    ),
    "length_constraints:number_paragraphs": (_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_sentences": (
        _relation("relation", "num_sentences", lambda text, _: count_sentences(text)),
        ("relation", "num_sentences"),
    ),
    "length_constraints:number_words": (
        _relation("relation", "num_words", lambda text, _: len(re.findall(r"\w+", text))),
        ("relation", "num_words"),
    ),
    "punctuation:no_comma": (lambda text, _: "," not in text, ()),
    "startend:end_checker": (
        lambda text, args: text.strip().strip('"').lower().endswith(str(args["end_phrase"]).strip().lower()),
        ("end_phrase",),
    ),
    "startend:quotation": (lambda text, _: len(quoted := text.strip()) > 1 and quoted[0] == quoted[-1] == '"', ()),
}
"""By the name that rows give: the check, and the arguments it needs."""
OF_LANGUAGE = frozenset({"change_case:english_capital", "change_case:english_lowercase", "language:response_language"})
"""Those that ask which language a text is in; what cannot be told is no fault."""
