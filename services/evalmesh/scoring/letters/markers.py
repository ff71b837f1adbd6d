"""Reads what explicit markers say: "the answer is B", "Correct choice: B", "答案是B", "정답은 B", `{"answer": "B"}`.

The last marker that settles on something decides. A marker counts where its own clause neither denies, supposes nor
asks ("I doubt that the answer is B", "if the answer is B", "is the answer B?").
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalmesh.scoring.letters.labels import expected_letter, is_joined, patterns, settled_letter
from evalmesh.scoring.letters.none_of import kind_of_none
from evalmesh.scoring.letters.options import none_option, option_at_start, starts_with_option
from evalmesh.scoring.letters.plain import unwrap
from evalmesh.scoring.letters.polarity import denied_before, denies, supposed, unsettled_after

MAX_MARKERS = 24
"""How many markers, from the end, are looked at."""
MAX_TAIL_CHARS = 400
"""How much text after a marker may hold the answer."""
_NEAR_CHARS = (64, 400)
"""The end of a text is searched first: most replies state their answer there."""
_LONGEST_WORD = 9

_SHORT = r"(?<![A-Za-z]...)(?=[ ]?[.:])"
_ASCII_WORDS = (
    # Spelt out: the engine jumps to the first letters of alternatives that begin with a literal.
    rf"answer|Answer|ANSWER|ans{_SHORT}|Ans{_SHORT}|ANS{_SHORT}|option|Option|OPTION|choice|Choice|CHOICE"
    r"|letter|Letter|LETTER|selection|Selection|solution|Solution|respuesta|Respuesta|RESPUESTA|antwort|Antwort"
    r"|ANTWORT|risposta|Risposta|resposta|Resposta|cevap|Cevap|jawaban|Jawaban"
)
_ASCII_WORD = re.compile(_ASCII_WORDS)
_WORD = re.compile(
    rf"{_ASCII_WORDS}"
    r"|答案|答(?=:)|正[确確]的?选项|正確的?選項|正[确確]的(?=是|为|為)|答え|正解|正答|解答|回答|정답|답|[rR]\u00e9ponse|R\u00c9PONSE"
    r"|[oO]p(?:ci\u00f3n|\u00e7\u00e3o)|[\u041e\u043e]твет|\u041e\u0422\u0412\u0415\u0422|[dD]j?\u00e1p \u00e1n"
    r"|[\u0110\u0111]\u00e1p \u00e1n"
)
_OPTION_WORDS = frozenset({"option", "choice", "letter", "selection", "opci\u00f3n", "op\u00e7\u00e3o", "solution"})
"""Words that need an adjective to be a marker: "the correct option is B", not "option B is heavy"."""
_ADJECTIVE = re.compile(
    r"\b(?:correct|right|best|final|my|chosen|selected|only|most[ ]\w+|remaining|closest|nearest|appropriate"
    r"|suitable|accurate|"
    r"proper|matching|preferred|correcta|mejor|correta|melhor|bonne|meilleure|richtige|beste"
    r"|the[ ]answer[ ]is)[\"'*_ ]{1,4}"
    r"(?:answer[ ]|multiple[- ])?$",
    re.IGNORECASE,
)
_RIGHT_INSIDE = re.compile(
    r"\b(?:correct|right|best|answers|most|correcta|correta|correcte|mejor|melhor|richtig)\b", re.IGNORECASE
)
_CLOSEST = re.compile(r"(?:closest|nearest)[\"'*_ ]{1,4}$", re.IGNORECASE)
_COPULA = (
    r"(?:(?:would|should|must|will|has[ ]to|have[ ]to|can[ ]only|seems?[ ]to|appears?[ ]to|is[ ]going[ ]to"
    r"|needs[ ]to|turns[ ]out[ ]to)[ ](?:\w+ly[ ])?be"
    r"|is|are|was|equals|becomes|remains|es|son|est|ist|lautet|w\u00e4re|\u00e8|\u00e9|l\u00e0|adalah"
    r"|\u044d\u0442\u043e|dir)\b(?![ ]to[ ])"
)
_LINK = re.compile(
    rf"(?:s\b|_?(?:letter|choice|option|key)\b)?[*_`\"')\]}}>]{{0,5}}(?:[ ]?\([^()\n]{{1,60}}\)[*_]{{0,4}})?(?:"
    rf"(?:[ ](?:correcta|correcte|correta|corretta|choice|letter|option"
    rf"|key))?[ \t]{{0,3}}(?P<sign>[:=\u2192\u2014\u2013]|[-=]{{1,2}}>?(?=[ ]|\*)|\u306f|\u304c|은|는|(?<=[nN][sS])\.)"
    rf"|(?P<copula>['\u2019]s(?=[ ])|,?(?:[ ][\w'\u2019/-]{{1,20}},?){{0,8}}?[ ]{_COPULA})"
    r"|[ ]?(?P<zh>(?:应该|应当|应|應該|應|就|只能|显然|肯定|当然|最后|最终|选项|确实){0,2}"
    r"(?:不应该?|不|并非|非)?(?:是|为|為|选择?|選擇?|即))"
    r"|[ \t:]{0,3}(?P<head>\n)"
    r"|(?P<tag>(?<=[>\]]))"
    r"|[ ]?(?P<bare>(?=[ (\[{])|(?<=[^\x00-\x7f])(?=[A-Z]))"
    r")[ \t]?(?:[:=]|[*_`]|that\b|therefore\b){0,4}"
)
_NEGATED_LINK = re.compile(r"[不非]|\b(?:no|non|n\u00e3o)[ ](?:es|\u00e8|\u00e9|lo[ ]es)\b")
_INSTEAD = re.compile(r"\b(?:but|sondern|sino)\b(?:[ ]rather)?[ ,]{0,2}|而是", re.IGNORECASE)
_HEADING = re.compile(r"(?:final|the|correct)[ ]$|[#*][ ]{0,3}$|^$", re.IGNORECASE)
_ADVERB = re.compile(
    r"(?:most[ ]likely|probably|likely|clearly|definitely|certainly|obviously|indeed|therefore|thus|hence|simply"
    r"|then|actually|"
    r"really|just|still|now|in[ ]fact|surely|undoubtedly|to[ ]be|be|that|also|again|the[ ]following|donc|entonces"
    r"|quindi|portanto|:"
    r"|显然|肯定|应该|就是|应是"
    r"|la|el|die|der|le|l['\u2019]|a|à)[ ,:]{0,2}(?=\S)",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:n['\u2019]t|not|neither|never|no[ ]longer|anything[ ]but|any(?:thing)?[ ]other[ ]than|nicht|weder|pas"
    r"|no[ ](?:es|la)|n\u00e3o|\u043d\u0435|"
    r"不应该?|不是|不会?|并非|非|绝不)\b|不|并非|非",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"(?:either|both|between|one[ ]of|among|any[ ]of|all[ ]of|could|might|may|possibly|perhaps|maybe)\b|可能|也许",
    re.IGNORECASE,
)
_PARTS = re.compile(r"[\s*(]{0,6}[a-z]\)")
"""Parts of a question rather than options: "the answers are: a) 12, b) 7"."""
_CLAUSE = re.compile(r"[.!?;\u3002](?=\s|$)|\u3002")


_ASKED = re.compile(
    r"(?:\n|[.!] )[*_# ]{0,4}(?:(?:So|Therefore|Thus|Hence),? )?(?:[Tt]he )?(?:[Ff]inal |[Cc]orrect )?(?:ANSWER"
    r"|[Aa]nswer)"
    r"(?: is|:|\*{1,2}:|:\*{1,2}| is:) [*(]{0,3}([A-Z])[)*.]{0,4}\Z"
)


def plain_last_line(text: str, labels: str) -> str | None:
    """The letter of a reply that ends as prompts ask for it, "ANSWER: B" or "The answer is (B)."; for speed alone."""
    match = _ASKED.search(("\n" + text)[-48:])
    return match[1] if match and match[1] in labels else None


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker's place and the text behind it."""

    at: int
    tail: str
    kind: str
    """What follows the word: "sign" (a colon), "copula", "head" (a new line), "tag", "zh" or "bare" (nothing)."""
    strong: bool
    """Counts against a "none of the above" before it; "the closest option is B" does not."""


def markers(text: str) -> Iterator[Marker]:
    """The markers of a text, last one first."""
    pattern, end = _ASCII_WORD if text.isascii() else _WORD, len(text)
    for back in (*_NEAR_CHARS, len(text)):
        start = max(0, len(text) - back)
        for word in reversed(deque(pattern.finditer(text, start, end), maxlen=MAX_MARKERS)):
            marker = _marker(text, word)
            if marker is not None:
                yield marker
        if start == 0:
            return
        end = start + _LONGEST_WORD


def _marker(text: str, word: re.Match[str]) -> Marker | None:
    at, name = word.start(), word.group().lower()
    before = text[max(0, at - 40) : at].rpartition("\n")[2]
    link = _LINK.match(text, word.end())
    if link is None or before.endswith(("</", "[/", "/")) or (_is_latin(before[-1:]) and name.isascii()):
        return None
    if not _is_announcement(name, str(link.lastgroup), before, link.group()):
        return None
    if denied_before(text, at) or _NEGATED_LINK.search(link.group()):
        return None
    if "would" in link.group() and supposed(text, at):
        return None
    tail = text[link.end() : link.end() + MAX_TAIL_CHARS]
    if link.group().startswith("s") and _PARTS.match(tail):
        return None
    return Marker(at, tail, str(link.lastgroup), strong=_CLOSEST.search(before) is None)


def _is_latin(char: str) -> bool:
    return char.isalpha() and char.isascii()


def _is_announcement(name: str, kind: str, before: str, link: str) -> bool:
    """Whether the word announces an answer: "option" alone does not, nor does "answer" at the end of any line."""
    adjective = _ADJECTIVE.search(before) is not None
    if name in _OPTION_WORDS and not adjective:
        if kind == "copula":
            return _RIGHT_INSIDE.search(link) is not None
        return kind in {"sign", "tag"} and (not before.strip(" *_#>-{\"'<[") or before.endswith(("_", '"')))
    if kind == "bare":
        return name in {"answer", "ans"} or not name.isascii()
    if kind == "head":
        return adjective or before[-1:] in {"<", "["} or _HEADING.search(before) is not None
    return True


def read_marker(marker: Marker, labels: str, choices: Sequence[str]) -> str | None:
    """What a marker settles on.

    Returns:
        A letter; "!" and a letter that it denies; "" where it is undecided or says that no option is right; `None`
        where it says nothing of the kind.
    """
    line = _first_line(marker)
    if marker.kind == "bare":
        return settled_letter(line, labels)
    if " " in line or not line.isascii() or expected_letter(line, labels) is None:
        option = option_at_start(line, labels, choices)
        if option is not None:
            return option  # "C major" may be an option of its own
    none = kind_of_none(line, 0)
    if none is not None:
        return none_option(none, labels, choices) or ""
    line = _without_adverbs(line, labels)
    negated = _NEGATED.match(line)
    if negated:
        denied, instead = expected_letter(line, labels, negated.end()), _INSTEAD.search(line)
        if instead is None:
            return f"!{denied.letter}" if denied else None
        line = line[instead.end() :]  # "not A but B"
    if _OPEN.match(line):
        return "" if patterns(labels).anywhere.search(line, 0, 80) else None
    return _letter_of(line, labels, choices)


def _first_line(marker: Marker) -> str:
    """The first line that says something behind a marker, without marks around it and up to a closing tag."""
    tail = marker.tail.lstrip(" \t" if marker.kind == "bare" else " \t\r\n*_`:#>-")
    if marker.kind != "bare" and tail[:1] not in {'"', "'", "(", "[", "{"}:
        tail = tail.lstrip("})]\"' \t\r\n*_`:#>-")
    line = unwrap(tail).partition("\n")[0].partition("</")[0].partition("[/")[0].strip()
    if len(line) == 1 and line.islower() and marker.kind != "bare":
        return line.upper()  # "answer: b"
    return line


def _without_adverbs(line: str, labels: str) -> str:
    for _ in range(3):
        adverb = _ADVERB.match(line)
        if adverb is None or expected_letter(line, labels) is not None:
            break
        line = line[adverb.end() :]
    return line


def _letter_of(line: str, labels: str, choices: Sequence[str]) -> str | None:
    found = expected_letter(line, labels)
    if found is not None:
        return _beyond_option(line, found.letter, found.end, labels, choices)
    glued = re.match(rf"[(\[\"' ]{{0,3}}([{labels}])[ ]", line)
    if glued and choices and starts_with_option(line[glued.end() :], choices[labels.index(glued[1])]):
        return str(glued[1])  # "B Rome"
    option = option_at_start(line, labels, choices)
    if option is not None:
        return option
    sentence = _CLAUSE.split(line, maxsplit=1)[0][:200]
    named = {a or b for a, b in patterns(labels).firm.findall(sentence)}
    named |= set(re.findall(rf", ([{labels}])$", sentence))
    if len(named) == 1 and not denies(sentence) and "?" not in line[: len(sentence) + 1]:
        return str(named.pop())  # "the answer is Rome (B)"
    return None


def _beyond_option(line: str, letter: str, end: int, labels: str, choices: Sequence[str]) -> str | None:
    """The letter, unless what follows it, or follows the option's own text, takes it back or names another."""
    rest = line[end:].lstrip(")].:*\"' ")
    choice = choices[labels.index(letter)] if choices else ""
    if not choice or not rest.casefold().startswith(choice.casefold()):
        return settled_letter(line, labels)
    after = len(line) - len(rest) + len(choice)
    if unsettled_after(line, after):
        return None
    return "" if is_joined(line, labels, after) else letter
