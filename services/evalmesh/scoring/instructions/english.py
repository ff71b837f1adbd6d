"""Sentences and words of English texts, as far as instructions count them.

Sentences end where Punkt ends them (Kiss and Strunk, "Unsupervised Multilingual Sentence Boundary Detection", 2006): at
a mark before a blank, whatever follows, unless the word before it is an abbreviation or an initial. A line break ends
none. Words are those of the Penn Treebank: contractions are two, and marks are none.
"""

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"\S+")
_END = re.compile(r"""\S*[.?!](?=[)\]}\[({;:*@'"!?]|$)""")
"""Of a token: up to its last mark that an end of the token or another mark follows; curly quotation marks are none."""
_CLOSING = "\"')]}"
_OPENING = "(\"'[{*_`\N{LEFT DOUBLE QUOTATION MARK}"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES = _set(
    "dr mr mrs ms messrs prof rev gen col sgt capt lt maj sen rep gov pres st vs bros cos jan feb aug sept oct nov dec "
    "e.g i.e p.s b.a m.a ft va ga fla calif ill mass minn mich ariz tenn wis conn ala ore pa ky kan colo wash tex"
)
"""Abbreviations that no sentence ends with."""
_MAY_END = _set("inc ltd co corp a.m p.m u.s u.k u.n d.c u.s.a n.y l.a ph.d m.d jr sr")
"""Abbreviations that a sentence ends with if one of the next begins."""
_STARTERS = _set(
    "the a an this that these those it he she we they i you in on at for but and as if when while there here my your "
    "his her our their however after before since although what who how why where one some many all no not"
)
_CONTRACTED = re.compile(r"(?i)(?<=[^' ])(n't|'(?:ll|re|ve|s|m|d))(?=[^A-Za-z']|$)")
_JOINED = re.compile(r"(?i)\b(can)(not)\b|\b(gim|lem)(me)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b")
_APART = re.compile(r"""[;@#$%&?!\[\](){}<>"`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2026]|--|\.\.\.|[:,](?!\d)""")


def count_sentences(text: str) -> int:
    """How many there are; what stands after the last end, beside marks that close, is one more."""
    tokens = _TOKEN.findall(text)
    if not tokens:
        return 0
    return 1 + sum(_ends(token, following) for token, following in zip(tokens, [*tokens[1:], ""], strict=True))


def _ends(token: str, following: str) -> bool:
    found = _END.match(token)
    if found is None or not (token[found.end() :].strip(_CLOSING) or following):
        return False
    word, mark = found[0][:-1].lstrip(_OPENING), found[0][-1]
    if mark in "?!":
        return True
    begins = (token[found.end() :].strip(_CLOSING) or following).lstrip(_OPENING)
    upper, starts = begins[:1].isupper(), begins.lower().rstrip(".,;:!?") in _STARTERS
    kinds = (
        (word.endswith("."), upper),  # three points
        (word.isdecimal(), not begins[:1].islower()),
        (len(word) == 1 and word.isalpha(), starts or not upper),
        (word.lower() in _TITLES, False),
        (word.lower() in _MAY_END, upper and starts),
    )
    return next((ends for applies, ends in kinds if applies), True)


def words(text: str) -> Iterator[str]:
    """One after the other, marks left out."""
    text = _JOINED.sub(lambda found: " ".join(filter(None, found.groups())), _CONTRACTED.sub(r" \1", text))
    yield from _TOKEN.findall(_APART.sub(" ", text))


def count_capital_words(text: str) -> int:
    """Words whose letters are capitals, all of them."""
    return sum(word.isupper() for word in words(text))
