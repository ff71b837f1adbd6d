r"""Takes the final answer of a mathematics problem out of a completion.

Each extractor is a small function `text -> answer | None`; `first_of` tries them in order. All of them are linear in
the length of the text: patterns are possessive or bounded, and loops over markers stop after a few.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from evalmesh.scoring.markup import half_width, is_mathematical, strip_decoration, strip_emphasis, strip_thinking
from evalmesh.scoring.numbers import NUMBER, last_number, read_number, split_unit

__all__ = ["Extraction", "extract_final_answer", "last_boxed", "marker_tails", "strip_thinking"]


class Extraction(NamedTuple):
    """What was found, and by which extractor."""

    answer: str
    extractor: str


Extractor = Callable[[str], str | None]

MAX_MARKERS = 24
"""How many markers, from the end, are looked at."""
MAX_TAIL_CHARS = 400
"""How much text after a marker may hold the answer."""

_HASH = re.compile(r"####[ \t]*+([^\n]{1,120})")
_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)[ ]?\{|\\.|[{}]", re.DOTALL)
_AFTER_ANSWER = re.compile(
    r"""
    (?:
        (?<=<answer)> | (?<=<Answer)> | (?<=<ANSWER)>
      | [*_`"')\]]{0,4}
        (?:
            [ \t]?\([^()\n]{1,60}\)[*_]{0,4}[ ]?(?:is\b|[:=\uff1a])  # Answer (in dollars): 18
          | [ \t]{0,3}(?:is|was|equals|=>?|->|→|[:\uff1a])(?!\w)     # Answer: 18, the answer is 18
          | (?:[ \t][\w'-]{1,20}){1,6}?[ \t](?:is|equals)\b          # the answer to the question is 18
          | [ \t:]{0,3}(?=\n)                                        # a heading of its own line
        )
    )
    [ \t]?(?:[:=\uff1a]|that\b|therefore\b|approximately\b|about\b|equal[ ]to\b|[*_](?=[\s:])){0,4}
    """,
    re.VERBOSE,
)
_TAG_END = re.compile(r"</(?i:answer)>")
_HEADING = re.compile(r"(?:final|the)[ ]$|[#*][ ]{0,3}$|^$", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"(?:[!?]|(?<!\bRs)(?<!\brs)(?<!pprox)(?<!\bca)\.)(?=[\s*\"')]|$)"
    r"|\u3002|\uff0c(?!\d{3}(?!\d))|\\\]|\\\)(?=[.,])"
)
_REASON = re.compile(
    r"[ ](?:because|since|as|which|where|given)[ ]|[,;][ ](?![-\u2212\u2013(\d$\\]|and\b|or\b|[a-z][ ]?=)"
    r"|[ ]\((?=[A-Za-z]|\$\d)"
)
_EQUALS = re.compile(r"(?<![<>!=:])=(?!=)")
_SEVERAL = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])|,")
_OTHER_LANGUAGES = re.compile(
    r"""
    (?: (?:答案|答え|정답|답|твет|[Rr](?:espuesta|esposta|isposta|éponse)|[Aa]ntwort) [*_\ ]{0,4} (?:应该|應該|应|應)?
        (?:[是为為选選はがも은는이:=\uff1a】\]]|\u2014|(?:es|est|ist|lautet|é|è)(?![^\W\d_])){1,2}
      | 答[:\uff1a]
    ) [*_\ ]{0,4}
    """,
    re.VERBOSE,
)
_NO_ANSWERS = frozenset({"correct", "incorrect", "right", "wrong", "clear", "as follows", "below", "above", "unknown"})
_OPERATORS = "+-*/^\u00d7·÷<>≤≥(\\:"
_START = re.compile(r"[ \t\r\n*_`:}]*+")
_START_OF_LINE = re.compile(r"(?:[ \t\r\n*_`:}>#]|[-+•][ \t])*+")
_OPEN = (("\\begin{", "\\end{"), ("\\[", "\\]"))
_PLAIN_TAIL = re.compile(r"[ \t]*+(-?\d{1,40})[ \t]*+(?:\n|$)")
"""By far the commonest tail, which spares the other rules."""
_ENDINGS = ("\n", "**", "`", "$", ")", "]", "}", '"', "\u3002", "!", "?", ". ", "</answer>")


def first_of(text: str, cascade: Sequence[tuple[str, Extractor]]) -> Extraction | None:
    """The first extractor that finds something."""
    for name, extractor in cascade:
        answer = extractor(text)
        if answer:
            return Extraction(answer, name)
    return None


def extract_final_answer(text: str, *, cut: bool = False) -> Extraction | None:
    """The final answer of a completion: explicit markers first, the last number of the text as a last resort.

    `cut`: the completion ended at its token limit. Then only a marker or a box counts, and only where the text goes on
    behind it or closes it: of "the answer is 12" the rest may be 500.
    """
    visible = half_width(strip_thinking(text))
    if not cut:
        return first_of(visible, FINAL_ANSWER_CASCADE) if visible else None
    visible = visible.removesuffix("{,}")
    end = max(visible.rfind(ending) + len(ending) if ending in visible else 0 for ending in _ENDINGS)
    return first_of(visible[:end], FINAL_ANSWER_CASCADE[:-1])


def hash_marker(text: str) -> str | None:
    """The first `#### N`, as the authors of GSM8K read it (grade_school_math/dataset.py, `extract_answer`).

    The line holds a number with at most its unit, since `#### 3 Remaining steps` is a heading; where it has a unit, a
    marker behind it is surer, and a box always is. Where no line does and the text ends in such a line, that line is
    the answer: `#### infinite` says that no number is.
    """
    if "####" not in text:
        return None
    for count, match in enumerate(_HASH.finditer(text)):
        if count == MAX_MARKERS:
            return None
        answer = strip_decoration(unbox(match[1])).rstrip("! ")
        number = read_number(answer)
        words = len(answer.split()) - 1 if number is not None and number.unit else 0
        is_last = not text[match.end() : match.end() + MAX_TAIL_CHARS].strip()
        if number is None or not _is_hash_unit(answer, words, is_last=is_last, percent=number.percent):
            if is_last and "\\boxed" not in text:
                return answer
            continue
        rest = "" if is_last else text[match.end() :]
        if ("\\boxed" in rest and last_boxed(rest)) or (words and answer_marker(rest)):
            return None
        return answer
    return None


def _is_hash_unit(answer: str, words: int, *, is_last: bool, percent: bool) -> bool:
    if percent:
        words = 0 if answer.endswith(("%", "percent")) else 2
    capitalised = answer.rpartition(" ")[2][:1].isupper() and not answer.isupper()
    return is_last or words == 0 or (words == 1 and not capitalised)


def boxed(text: str) -> str | None:
    """The content of the last box; where that says "the answer is x", x."""
    content = last_boxed(text)
    if not content or "nswer" not in content.lower():
        return content
    stated = answer_marker(content)
    return stated if stated and any(c.isdigit() or c == "\\" for c in stated) else content


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}`, braces balanced; the outer one where boxes are nested."""
    start = text.find("\\boxed")
    if start < 0:
        start = text.find("\\fbox")
        if start < 0:
            return None
    stack: list[int] = []
    best: tuple[int, int] | None = None
    for token in _BOX_TOKEN.finditer(text, start):
        found = token.group()
        if found == "}":
            if stack:
                opened = stack.pop()
                if opened >= 0:
                    best = (opened, token.start())
        elif found == "{":
            stack.append(-1)
        elif len(found) > 2:
            stack.append(token.end())
    return None if best is None else unbox(text[best[0] : best[1]]).strip()


def unbox(text: str) -> str:
    r"""The content where the text is itself one `\boxed{...}`."""
    stripped = text.strip(" $*.\t\r\n")
    for opening in ("\\boxed{", "\\fbox{"):
        if stripped.startswith(opening) and stripped.endswith("}"):
            return unbox(stripped[len(opening) : -1])
    return text


def answer_marker(text: str) -> str | None:
    """What the last "answer: x", "the answer is x" or line "A: x" says; one that names a number is preferred."""
    textual: str | None = None
    for tail in marker_tails(text):
        answer = _answer_of_tail(tail)
        if not answer:
            continue
        if any(c.isdigit() or c == "\\" for c in answer):
            return answer
        textual = textual or answer
    at = text.rfind("\nA:") + 1
    line = text[at + 2 : at + 202].partition("\n")[0] if text.startswith("A:", at) else ""
    return (_answer_of_tail(line) if line else None) or textual


def marker_tails(text: str) -> Iterator[str]:
    """The texts that follow the last markers made of the word "answer", in English or not, last one first."""
    if not text.isascii() or ("nswer" not in text and ("uesta" in text or "posta" in text or "ntwort" in text)):
        ends = [match.end() for match in _OTHER_LANGUAGES.finditer(text[-20_000:])][-MAX_MARKERS:]
        yield from (text[-20_000:][end : end + MAX_TAIL_CHARS] for end in reversed(ends))
    end = len(text)
    for _ in range(MAX_MARKERS):
        at = max(text.rfind("nswer", 0, end), text.rfind("NSWER", 0, end))
        if at < 1:
            return
        end = at
        if text[at - 1] not in "aA" or (at > 1 and text[at - 2].isalpha()):
            continue
        match = _AFTER_ANSWER.match(text, at + 5)
        if match is None:
            continue
        line_start = max(text.rfind("\n", max(0, at - 20), at), at - 20)
        if match.group().strip(" \t*_`:") == "" and ":" not in match.group():
            before = text[max(0, line_start + 1) : at - 1]
            if _HEADING.search(before) is None:
                continue
        yield _TAG_END.split(text[match.end() : match.end() + MAX_TAIL_CHARS], maxsplit=1)[0]


def first_sentence(tail: str) -> str:
    """The first sentence of the first line that says something; a dash and a blank before it are a bullet."""
    opening = _START_OF_LINE if tail.lstrip(" \t*_").startswith("\n") else _START
    line = ""
    for raw in tail.split("\n", 8):
        line = opening.sub("", strip_emphasis(raw), count=1)
        if line:
            break
    cut = _SENTENCE_END.search(line)
    return (line[: cut.start()] if cut and cut.start() > 0 else line).strip()


def guess(text: str) -> str | None:
    """The last number of the text, unless the text ends inside a formula: then it was not finished."""
    unclosed = any(text.rfind(opening) > text.rfind(closing) for opening, closing in _OPEN)
    return None if unclosed else last_number(text)


def _answer_of_tail(tail: str) -> str | None:
    plain_tail = _PLAIN_TAIL.match(tail)
    if plain_tail is not None:
        return plain_tail[1]
    inner = last_boxed(tail)
    if inner:
        return inner
    sentence = first_sentence(tail)
    if not sentence or sentence[:4].lower() == "not ":
        return None
    sentence = _without_reason(sentence)
    sides = [side.strip(" $") for side in _EQUALS.split(sentence)]
    if len(sides) == 2 or _SEVERAL.search(sentence) is None:
        is_named = sides[-1].isalpha() and not sides[0].isalpha()  # 18 = x
        sentence = sides[0] if is_named else sides[-1] or sentence
    plain = strip_decoration(sentence)
    if "}" in plain and plain.count("}") > plain.count("{"):
        plain = plain.rstrip("\"' }")  # the end of {"answer": "18"}
    if is_mathematical(_SEVERAL.sub(",", split_unit(plain)[0])):
        return plain
    if read_number(plain) is None:
        plain = _leading_number(plain) or plain
    if any(c.isdigit() for c in plain):
        return plain if NUMBER.match(plain) else last_number(plain)
    return plain if len(plain) <= 60 and plain.lower() not in _NO_ANSWERS else None


def _without_reason(sentence: str) -> str:
    """The sentence up to "because ...", ", since ..." or "(...)", so that numbers of the reason are not the answer."""
    cut = _REASON.search(sentence)
    if cut is None:
        return sentence
    head = sentence[: cut.start()]
    balanced = all(head.count(a) == head.count(b) for a, b in ("()", "[]", "{}"))
    return head if balanced and any(c.isdigit() for c in head) else sentence


def _leading_number(text: str) -> str | None:
    match = NUMBER.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    stripped = rest.removeprefix(":").lstrip(" $") if rest.startswith(": ") else rest.lstrip(" $")
    if not stripped or (stripped[0] not in _OPERATORS and not (rest[0].isalpha() and len(rest.split()[0]) == 1)):
        several = re.search(r"\b(?:and|or)[ ][$]?\d|,[ ]?[$]?\d", rest)
        return None if several else match.group().strip()
    return None


FINAL_ANSWER_CASCADE: tuple[tuple[str, Extractor], ...] = (
    ("hash-marker", hash_marker),
    ("boxed", boxed),
    ("answer-marker", answer_marker),
    ("last-number", guess),
)
