"""Conclusions that name one label as the thing asked for: "The point corresponds to Point A.", "Image B is closer."."""

import re
from collections.abc import Iterator

from evalmesh.scoring.letters.labels import EDGE, is_joined
from evalmesh.scoring.letters.polarity import denied_before, denies, unsettled_after

_NOUN = (
    r"(?:option|choice|candidate|point|image|picture|photo(?:graph)?|figure|drawing|diagram|graph|chart|box|region|area"
    r"|circle|shape|piece|patch|panel|tile|frame|view|object|item|marker|spot|location|position|sentence|statement"
    r"|passage|text|caption|description|response|word|phrase|title|summary)"
)
"""What a label may stand for. "Type", "group", "vitamin" and their like name things that have letters of their own."""
_MENTION = (
    rf"(?:{EDGE}(?i:{_NOUN})[ ](?i:labell?ed[ ])?[(\[\"']{{0,2}}(?P<named>[A-Z])(?![A-Za-z0-9_/+#^=<>]|['\u2019-][A-Za-z])"
    rf"[)\]\"']{{0,2}}|[(\[](?:(?i:{_NOUN})[ ])?(?P<held>[A-Z])[)\]]"
    r"|^(?P<bare>[A-Z])(?=[ ]is[ ]))"
)
_ASKED = (
    r"(?:most(?![ ]likely[ ](?:an?|the|due|because|that)\b)|best|(?:clos|near|bright|dark|light|larg|small|bigg|few|great|high|low|long|short|like?li|odd)est|missing"
    r"|corresponding|matching|odd[ ]one|(?:more|better|closer|nearer|darker|brighter|lighter|larger|smaller|bigger"
    r"|taller|higher|lower|longer|shorter|heavier|older|younger|safer|stronger|faster)\b(?![^.;]{0,80}\bthan\b))"
)
_BE = (
    r"(?:is|would[ ]be|must[ ]be|should[ ]be|has[ ]to[ ]be|(?:appears|seems|looks)(?:[ ]to[ ]be)?|stands[ ]out(?:[ ]as)?"
    r"|remains)"
)
_ADVERB = r"(?:(?:\w{2,12}ly|also|thus|indeed)[ ])?"
_FITS = (
    r"(?:correspond(?:s|ing)[ ](?:\w{2,12}ly[ ])?(?:to|with)|match(?:es|ing)|(?:fits|completes)(?=[ ](?:the|this|best|into)\b)"
    r"|shares[ ]the[ ]same|closest[ ]to)"
)
_SUBJECT = re.compile(
    rf"{_MENTION}[ ](?:{_BE}[ ]{_ADVERB}(?:the[ ])?(?:{_ADVERB}{_ASKED})\b|{_ADVERB}{_FITS}\b|(?:more|most|best|better)"
    rf"[ ](?:\w{{2,12}}ly[ ])?\w{{2,14}}s\b|[^.;]{{0,160}}?,[ ]making[ ](?:it|this)[ ](?:the[ ])?{_ASKED}\b)"
)
"""A label that is what was asked for: "Point A is closer", "the second image (B) best matches"."""
_OBJECT = re.compile(
    rf"\b(?:{_FITS}|(?P<is>{_BE})|(?i:choose|select|pick))(?:[ ]as)?:?[ ]{{1,3}}{_ADVERB}(?:the[ ])?(?:(?!often|usually|sometimes)[\w-]{{1,20}}[ ]){{0,2}}{_MENTION}"
)
"""A label that something is or fits: "corresponds to Point A", "the best match is image B"."""
_WHAT = re.compile(
    rf"\b(?:(?:it|this|that)[ ]$|(?:match|pick|{_ASKED}|{_FITS}|(?:that|which)[ ][a-z]+s)\b)", re.IGNORECASE
)
"""What makes "... is Point A" a conclusion: what was asked stands before it, or a word that points back to it."""
_LETTER = re.compile(_MENTION)
_ANNOUNCED = re.compile(r":\s*\n\s*(?=[(\[]?[A-Z][)\].])")
_CONCLUDES = re.compile(
    r"(?:so|thus|therefore|hence|consequently|finally|overall|in[ ]conclusion|conclusion|given|considering"
    r"|based[ ]on|from[ ]this)\b",
    re.IGNORECASE,
)
_END = re.compile(r"(?<=[^\s.][.!?])\s+|\n+|(?<=[\u3002!?])(?=[^\x00-\x7f\s])")
_LEAD = re.compile(
    r"(?:so|thus|therefore|hence|consequently|finally|overall|in[ ]conclusion|clearly)\b,?[ ]|among[ ]", re.IGNORECASE
)
"""Words that open a conclusion, and a word that in one means no choice left open."""
_ITEM = re.compile(r"[-\u2022*][ ]|\d{1,2}[.)]")
_MAX_CHARS = 6000
_MAX_SENTENCE_CHARS = 500


def singled_out(text: str, labels: str) -> str | None:
    """The one label that the conclusions of a finished reply name; "" where two of them differ.

    Conclusions are the first and the last two sentences, those that open with a word like "therefore", and those
    that announce a line with a label.
    """
    found = {letter for sentence in _conclusions(text) if (letter := _claimed(sentence)) is not None}
    if len(found) != 1:
        return "" if found else None
    letter = found.pop()
    return letter if letter in labels else None


def _conclusions(text: str) -> Iterator[str]:
    if len(text) > _MAX_CHARS:
        text = text[: _MAX_CHARS // 6] + "\n" + text[-_MAX_CHARS:]
    announced = _ANNOUNCED.sub(":  ", text)
    sentences = [sentence.strip() for sentence in _END.split(announced) if sentence.strip()]
    for i, sentence in enumerate(sentences):
        if _ITEM.match(sentence):
            continue
        if i == 0 or i >= len(sentences) - 2 or ":  " in sentence or _CONCLUDES.match(sentence):
            yield sentence[-_MAX_SENTENCE_CHARS:]


def _claimed(sentence: str) -> str | None:
    """The label of a sentence that names no other and says that it is the one."""
    sentence = _LEAD.sub("", sentence)
    letters = {match[match.lastgroup or 0] for match in _LETTER.finditer(sentence)}
    if len(letters) != 1 or sentence.endswith("?"):
        return None
    for match in (*_SUBJECT.finditer(sentence), *_OBJECT.finditer(sentence)):
        group = match["named"] or match["held"] or match["bare"]
        name = next(name for name in ("named", "held", "bare") if match[name])
        if "is" in match.groupdict() and match["is"] and not _WHAT.search(sentence[: match.start()]):
            continue
        if _is_meant(sentence, match, match.end(name)):
            return group
    return None


def _is_meant(sentence: str, match: re.Match[str], end: int) -> bool:
    return not (
        denies(sentence[: match.end()])
        or denied_before(sentence, match.start())
        or unsettled_after(sentence, end)
        or is_joined(sentence, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", end)
    )
