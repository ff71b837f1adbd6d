"""Finds a letter where one is expected, and never inside a word, a name, a formula or an article."""

import re
from functools import lru_cache
from typing import NamedTuple

from evalmesh.scoring.letters.polarity import unsettled_after

_NOUN = (
    r"(?:(?:the[ ])?(?:option|choice|letter|answer|alternative|selection)s?|(?:la[ ])?opci[o\u00f3]n"
    r"|(?:l['\u2019])?option|"
    r"op\u00e7\u00e3o|(?:die[ ])?(?:option|antwort)|\u0432\u0430\u0440\u0438\u0430\u043d\u0442"
    r"|选项|選項|選択肢|선택지|보기)"
)
"""A word that says that what follows it is a letter."""
_OPINION = (
    r"(?:(?i:I[ ](?:think|believe|guess|say)|I['\u2019]d[ ]say|probably|most[ ]likely|definitely|clearly"
    r"|certainly|surely)"
    r"[ ,:]{1,2}(?i:it[ ]is[ ]|it['\u2019]s[ ])?)?"
)
_FOLLOWS = (
    r"(?:because|since|as|is|was|due|with|for|which|according|here|there|and|or|but|not|rather|instead|over|given"
    r"|when|where|"
    r"while|whereas|so|if|in|on|at|by|from|that|the|this|these|it|its|based|only|alone|then|after|before|about|"
    r"porque|ya|car|parce|weil|denn|da|perch\u00e9|\u00e8|es|est|ist|y|et|und|oder|ou)"
)
"""Words that follow a letter and never an article or a pronoun: the same for every letter, so that none is favoured."""
EDGE = r"(?<![A-Za-z0-9\u00c0-\u024f_'\u2019\u00b0./+#&-])"
_AFTER = r"(?![A-Za-z0-9\u00c0-\u024f_/+#\u00b0^(\\]|['\u2019][A-Za-z]|[-.&][A-Za-z0-9]|[ ]?[=<>+*][ ]?[\w(])"
_JOIN = (
    r"(?:,[ ]?(?:and|or|and/or)\b|\b(?:and|or|and/or|vs\.?|versus|as[ ]well[ ]as|y|e|o|u|et|ou|und|oder|\u0438"
    r"|\u0438\u043b\u0438)\b"
    r"|[,/&|;+\u3001]|和|与|與|及|或者?|还是|還是|か|と|や|または|또는|혹은|이?나(?=[ ])|와|과)"
)
_CLOSE = r"[)\]}\"'.:]{0,3}"
_NEW_CLAUSE = r"(?![)\]]?[ ]?(?:is|was|isn|does|has|can|could|would|不|错|也不|都不))"


class Patterns(NamedTuple):
    """Compiled for one set of labels."""

    expected: re.Pattern[str]
    alone: re.Pattern[str]
    line_start: re.Pattern[str]
    firm: re.Pattern[str]
    item: re.Pattern[str]
    last: re.Pattern[str]
    joined: re.Pattern[str]
    anywhere: re.Pattern[str]


@lru_cache(maxsize=64)
def patterns(labels: str) -> Patterns:
    """The patterns for a set of labels, "ABCD" or "ABCDEFGHIJ"."""
    upper, both = f"[{labels}]", f"[{labels}{labels.lower()}]"
    ends = rf"(?=[ ]*$|[ ]*[^\w\s=<>+*^]|[ ]*[^\x00-\u024f\s]|[ ]{_FOLLOWS}\b)"
    opened = r"[(\[{\"'<]{0,3}"
    held = rf"[(\[{{<\"'][ ]?(?P<held>{both})[ ]?[)\]}}>\"'](?![A-Za-z0-9])"
    named = (
        rf"(?i:{_NOUN})[ :]{{0,2}}{opened}(?P<named>{upper}{_AFTER}|{both}{_AFTER}(?=[ ]*[^\\w\\s=<>+*^]"
        rf"|[ ]{_FOLLOWS}\\b))"
    )
    free = rf"{opened}(?P<free>{upper}){_AFTER}{ends}"
    lower = rf"{opened}(?P<lower>{both})(?=[)\]}}\"'.,!\u3002 ]{{1,4}}$|[)\]])"
    return Patterns(
        expected=re.compile(
            rf"[ \t:}}>)#=\u2192\u2600-\u27bf\U0001f300-\U0001faff-]{{0,8}}(?:{named}|{held}|{free}|{lower})"
        ),
        alone=re.compile(
            rf"[^\w.]{{0,6}}{_OPINION}(?:(?i:{_NOUN})[ :]{{0,2}})?[(\[{{\"']{{0,2}}({both})"
            r"[)\]}\"'>. :,!\u3002;]{0,5}"
            r"(?:です|번?입니다|번|이다|选项|選項|项)?[\u3002.]?[ ]?[\u2190-\u2bff\U0001f300-\U0001faff]{0,3}"
        ),
        line_start=re.compile(
            rf"[ \t>#-]{{0,6}}(?:\(({upper})\)|\[({upper})\]|({upper})(?:[).:]|[ ]?$|(?=[ ](?:because|since)\b"
            rf"|,[ ](?:because|since)\b|[ ][\u2014\u2013-][ ]))){_AFTER}"
        ),
        firm=re.compile(rf"[(\[]({upper})[)\]]|(?i:{_NOUN})[ ]({upper}){_AFTER}"),
        item=re.compile(rf"{EDGE}\(?(?:{upper})[).:][ ]|[(\[]{upper}[)\]]"),
        last=re.compile(rf"(?:[^\W\d_][ ]|[:,]|[^\x00-\u024f])[ ]?{upper}[.)]?$"),
        joined=re.compile(
            rf"{_CLOSE}[ ]?{_JOIN}[ ]?(?:(?i:either|both|the|maybe|perhaps|possibly|even)[ ])?(?:(?i:{_NOUN})[ ]?)?"
            rf"[(\[\"']?{upper}{_AFTER}{_NEW_CLAUSE}|[)\]][ ]?[(\[]{upper}[)\]]|[ ]{upper}(?=[ ]*$|[ ]{upper}\b)"
        ),
        anywhere=re.compile(rf"{EDGE}{upper}{_AFTER}"),
    )


class Found(NamedTuple):
    """A letter and where it ends."""

    letter: str
    end: int


def expected_letter(text: str, labels: str, at: int = 0) -> Found | None:
    """The letter at a place where one is expected, whatever is said about it."""
    match = patterns(labels).expected.match(text, at)
    if match is None:
        return None
    name = match.lastgroup or "free"
    return Found(match[name].upper(), match.end(name))


def settled_letter(text: str, labels: str, at: int = 0, *, capital: bool = False) -> str | None:
    """The letter at a place where one is expected.

    Returns "" where two are named ("B or C"), and `None` where there is none or it is denied, asked or left open.
    `capital`: a small letter is none, since the place is not plain enough ("which is a").
    """
    found = expected_letter(text, labels, at)
    if found is None or (capital and text[found.end - 1].islower()) or unsettled_after(text, found.end):
        return None
    return "" if is_joined(text, labels, found.end) else found.letter


def is_joined(text: str, labels: str, at: int) -> bool:
    """Whether the letter that ends here is one of several: "B or C", "A, B", "A 和 C"."""
    return patterns(labels).joined.match(text, at) is not None
