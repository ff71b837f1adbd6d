r"""Takes the final answer of a mathematics problem out of a completion.

Each extractor is a small function `text -> answer | None`; `first_of` tries them in order. All of them are linear in
the length of the text: patterns are possessive or bounded, and loops over markers stop after a few.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from evalmesh.scoring.numbers import NUMBER, last_number, read_number, strip_decoration


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
    [*_`"')\]]{0,4}
    (?:
        [ \t]?\([^()\n]{1,60}\)[*_]{0,4}[ ]?(?:is\b|[:=\uff1a])  # Answer (in dollars): 18
      | [ \t]{0,3}(?:is|was|equals|=|[:\uff1a])(?!\w)            # Answer: 18, the answer is 18
      | (?:[ \t][\w'-]{1,20}){1,6}?[ \t](?:is|equals)\b           # the answer to the question is 18
      | [ \t:]{0,3}(?=\n)                                         # a heading of its own line
    )
    [ \t]?(?:[:=\uff1a]|that\b|therefore\b|approximately\b|about\b|equal[ ]to\b|[*_]){0,4}
    """,
    re.VERBOSE,
)
_HEADING = re.compile(r"(?:final|the)[ ]$|[#*][ ]{0,3}$|^$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=[\s*\"')]|$)|[\u3002\uff0c]|\\\]|\\\)(?=[.,])")
_REASON = re.compile(r"[ ](?:because|since|as|which|where|given)[ ]|[,;][ ](?![\d$\\]|and\b|or\b)|[ ]\((?=[A-Za-z])")
_A_LINE = re.compile(r"^A:[ \t]*+([^\n]{1,200})", re.MULTILINE)
_CHINESE = re.compile(r"答案(?:应该)?(?:是|为|选|:|\uff1a){1,2}")
_MATHEMATICAL = re.compile(r"(?:\\[A-Za-z]++|[A-Za-z]{1,2}(?![A-Za-z])|(?:sqrt|pi|sin|cos|tan|log|ln)\b|[^A-Za-z])++")
_NO_ANSWERS = frozenset({"correct", "incorrect", "right", "wrong", "clear", "as follows", "below", "above", "unknown"})
_OPERATORS = "+-*/^\u00d7·÷<>≤≥(\\:"


def strip_thinking(text: str) -> str:
    """What the model says after it thought: the text behind the last closing tag.

    A tag that was opened and never closed means the answer was never reached: what follows the opening is dropped.
    """
    if "think" not in text:
        return text
    for name in ("think", "thinking"):
        close = f"</{name}>"
        at = text.rfind(close)
        if at >= 0:
            text = text[at + len(close) :]
    for name in ("<think>", "<thinking>"):
        at = text.find(name)
        if at >= 0:
            text = text[:at]
    return text


def first_of(text: str, cascade: Sequence[tuple[str, Extractor]]) -> Extraction | None:
    """The first extractor that finds something."""
    for name, extractor in cascade:
        answer = extractor(text)
        if answer:
            return Extraction(answer, name)
    return None


def extract_final_answer(text: str) -> Extraction | None:
    """The final answer of a completion: explicit markers first, the last number of the text as a last resort."""
    visible = strip_thinking(text)
    return first_of(visible, FINAL_ANSWER_CASCADE) if visible else None


def hash_marker(text: str) -> str | None:
    """The first `#### N`, as the authors of GSM8K read it (grade_school_math/dataset.py, `extract_answer`).

    The line must hold a number and nothing else but its unit, since `#### Step 2` is a heading.
    """
    if "####" not in text:
        return None
    for count, match in enumerate(_HASH.finditer(text)):
        if count == MAX_MARKERS:
            return None
        answer = strip_decoration(unbox(match[1]))
        if read_number(answer) is not None:
            return answer
    return None


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
    lines = _A_LINE.findall(text[-20_000:]) if "A:" in text else []
    return (_answer_of_tail(lines[-1]) if lines else None) or textual


def marker_tails(text: str) -> Iterator[str]:
    """The texts that follow the last markers made of the word "answer" (or its Chinese), last one first."""
    if "答案" in text:
        ends = [match.end() for match in _CHINESE.finditer(text[-20_000:])][-MAX_MARKERS:]
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
        yield text[match.end() : match.end() + MAX_TAIL_CHARS]


def first_sentence(tail: str) -> str:
    """The first sentence of the first line that says something."""
    line = tail.lstrip(" \t\r\n*_`:#>-" if tail.lstrip(" \t*_").startswith("\n") else " \t\r\n*_`:").partition("\n")[0]
    cut = _SENTENCE_END.search(line)
    return (line[: cut.start()] if cut and cut.start() > 0 else line).strip()


def is_mathematical(text: str) -> bool:
    """Whether a text is a formula rather than prose: no word of three letters but known functions."""
    return _MATHEMATICAL.fullmatch(text) is not None


def _answer_of_tail(tail: str) -> str | None:
    boxed = last_boxed(tail)
    if boxed:
        return boxed
    sentence = first_sentence(tail)
    if not sentence or sentence[:4].lower() == "not ":
        return None
    sentence = _without_reason(sentence)
    sentence = sentence.rpartition("=")[2].strip() or sentence
    plain = strip_decoration(sentence)
    if read_number(plain) is None:
        plain = _leading_number(plain) or plain
    if is_mathematical(plain):
        return plain
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
    stripped = rest.lstrip(" $")
    if not stripped or (stripped[0] not in _OPERATORS and not (rest[0].isalpha() and len(rest.split()[0]) == 1)):
        several = re.search(r"\b(?:and|or)[ ][$]?\d|,[ ]?[$]?\d", rest)
        return None if several else match.group().strip()
    return None


FINAL_ANSWER_CASCADE: tuple[tuple[str, Extractor], ...] = (
    ("hash-marker", hash_marker),
    ("boxed", last_boxed),
    ("answer-marker", answer_marker),
    ("last-number", last_number),
)
