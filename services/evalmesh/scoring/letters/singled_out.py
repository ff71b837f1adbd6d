"""Conclusions that name one label as the thing asked for: "The point corresponds to Point A.", "Image B is closer."."""

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from evalmesh.scoring.letters.labels import EDGE, is_joined
from evalmesh.scoring.letters.polarity import denies, unsettled_after

_NOUN = (
    r"(?:option|choice|candidate|point|image|picture|photo(?:graph)?|figure|drawing|diagram|graph|chart|box|region|area"
    r"|circle|shape|piece|patch|panel|tile|frame|view|object|item|marker|spot|location|position|sentence|statement"
    r"|passage|text|caption|description|response|word|phrase|title|summary)"
)
"""What a label may stand for. "Type", "group", "vitamin" and their like name things that have letters of their own."""
_MENTION = (
    rf"(?:{EDGE}(?i:{_NOUN})[ ](?i:labell?ed[ ])?[(\[\"']{{0,2}}(?P<named>[A-Z])"
    rf"(?![A-Za-z0-9_/+#^=<>]|['\u2019-][A-Za-z])"
    rf"[)\]\"']{{0,2}}|[(\[](?:(?i:{_NOUN})[ ])?(?P<held>[A-Z])[)\]]"
    r"|^(?P<bare>[A-Z])(?=[ ]is[ ]))"
)
_ASKED = (
    r"(?:most(?![ ]likely[ ](?:an?|the|due|because|that)\b)|best|(?:clos|near|bright|dark"
    r"|light|larg|small|bigg|few|great|high|low|long|short|like?li|odd)est|missing"
    r"|corresponding|matching|odd[ ]one|(?:more|better|closer|nearer|darker|brighter|lighter|larger|smaller|bigger"
    r"|taller|higher|lower|longer|shorter|heavier|older|younger|safer|stronger|faster)\b(?![^.;]{0,80}\bthan\b))"
)
_BE = (
    r"(?:is|would[ ]be|must[ ]be|should[ ]be|has[ ]to[ ]be|(?:appears|seems|looks)(?:[ ]to[ ]be)?"
    r"|stands[ ]out(?:[ ]as)?"
    r"|remains)"
)
_ADVERB = r"(?:(?:\w{2,12}ly|also|thus|indeed)[ ])?"
_FITS = (
    r"(?:correspond(?:s|ing)[ ](?:\w{2,12}ly[ ])?(?:to|with)|match(?:es|ing)"
    r"|(?:fits|completes)(?=[ ](?:the|this|best|into)\b)"
    r"|shares[ ]the[ ]same|closest[ ]to)"
)
_SUBJECT = re.compile(
    rf"{_MENTION}[ ](?:{_BE}[ ]{_ADVERB}(?:the[ ])?(?:{_ADVERB}{_ASKED})\b|{_ADVERB}{_FITS}\b|(?:more|most|best|better)"
    rf"[ ](?:\w{{2,12}}ly[ ])?\w{{2,14}}s\b|[^.;]{{0,160}}?,[ ]making[ ](?:it|this)[ ](?:the[ ])?{_ASKED}\b)"
)
"""A label that is what was asked for: "Point A is closer", "the second image (B) best matches"."""
_OBJECT = re.compile(
    rf"\b(?:{_FITS}|(?P<is>{_BE}|(?<=[Tt])['\u2019]s)|(?i:choose|select|pick))(?:[ ]as)?:?[ ]{{1,3}}{_ADVERB}"
    rf"(?:the[ ])?(?:(?!often|usually|sometimes)[\w-]{{1,20}}[ ]){{0,2}}{_MENTION}"
)
"""A label that something is or fits: "corresponds to Point A", "the best match is image B"."""
_WHAT = re.compile(
    rf"\b(?:(?:it|this|that)(?:['\u2019]s|[ ]{_BE})|answer|choice|match|pick|{_ASKED}|{_FITS}|(?:that|which)[ ][a-z]+s)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""What makes "... is Point A" a conclusion: what was asked stands before it, or a word that points back to it."""
_AS_OPTION = re.compile(r"[(\[](?i:option|choice|answer)[ ](?P<held>[A-Z])[)\]](?![ ]?[:=])")
"""An option that is named where its words are said: "It moves to the right (option B)."."""
_ALONE = re.compile(
    rf"(?i:the[ ])?(?i:(?:fir|la)st[ ]|second[ ]|third[ ]|fourth[ ]|fifth[ ]|left[ ]|right[ ])?{_MENTION}[.]?"
    r"|(?i:the)[ ](?:[\w-]{1,20}[ ]){1,4}[(\[](?P<after>[A-Z])[)\]][.]?"
)
"""A reply that is no more than a name: "Image B", "The second image (B)."."""
_HEARSAY = re.compile(
    r"\b(?:some|people|others|many|most)[ ](?:\w+[ ])?(?:say|think|claim|argue|believe)\b", re.IGNORECASE
)
_TURN = re.compile(r"\b(?:but|however|yet|although|though|which)\b")
_TAKEN_BACK = re.compile(
    r"(?:^|[.!?\n]\s{0,2})(?:no[,.!]|wait\b|hold[ ]on|hmm|(?:but|however,?)[ ](?:that|this|it)\b|actually\b)",
    re.IGNORECASE,
)
_COMPARED = re.compile(r"(?<=[ ]to[ ]the[ ])(?:first|reference|original)[ ]\w{1,20}[ ]\([A-Z]\)")
"""What the options are compared with may be lettered, too."""
_WORDS = re.compile(
    r"the (?:fir|la)st \w+|the (?:second|third|fourth|fifth|left|right|upper|lower|top|bottom|middle) \w+",
    re.IGNORECASE,
)
"""Options that a sentence can name in passing as well as any label: "the third image"."""
_LETTER = re.compile(_MENTION)
_ANNOUNCED = re.compile(r":\s*\n\s*(?=[(\[]?[A-Z][)\].])")
_WEIGHED = re.compile(r"(?:conclusion|given|considering|based[ ]on|from[ ]this)\b", re.IGNORECASE)
_END = re.compile(r"(?<=[^\s.][.!?])\s+|\n+|(?<=[\u3002!?])(?=[^\x00-\x7f\s])")
_LEAD = re.compile(
    r"(?:so|thus|therefore|hence|consequently|finally|overall|in[ ]conclusion|clearly)\b,?[ ]|among[ ]", re.IGNORECASE
)
"""Words that open a conclusion, and a word that in one means no choice left open."""
_ITEM = re.compile(r"[-\u2022*][ ]|\d{1,2}[.)]")
_MAX_NAME_CHARS = 60
_MAX_CHARS = 6000
_MAX_SENTENCE_CHARS = 500


def singled_out(text: str, labels: str, choices: Sequence[str] = ()) -> str | None:
    """The one label that the conclusions of a finished reply name; "" where two of them differ.

    Conclusions are the first and the last two sentences, those that open with a word like "therefore", and those
    that announce a line with a label.
    """
    alone = _ALONE.fullmatch(text) if len(text) <= _MAX_NAME_CHARS else None
    if alone and not denies(text):
        only = str(alone[alone.lastgroup or 0])
        return only if only in labels else None
    if _TAKEN_BACK.search(text[-_MAX_CHARS:]):
        return None
    text = _with_labels(text, labels, choices)
    found = {letter for sentence, firm in _conclusions(text) if (letter := _claimed(sentence, firm=firm)) is not None}
    if len(found) != 1:
        return "" if found else None
    (letter,) = found
    return letter if letter in labels else None


def _with_labels(text: str, labels: str, choices: Sequence[str]) -> str:
    """The text with "option B" for the words of option B, unless they bear a label that is one of the options."""
    for label, choice in zip(labels, choices, strict=False):
        if _WORDS.fullmatch(choice):
            words = re.compile(
                rf"(?<!\))(?<!\) )\b{re.escape(choice)}\b(?![ ][(\[][{labels}][)\]])(?:[ ]\([A-Z]\))?", re.IGNORECASE
            )
            text = words.sub(f"option {label}", text)
    return text


def _conclusions(text: str) -> Iterator[tuple[str, bool]]:
    """Sentences, and whether their place or first word says that they conclude."""
    if len(text) > _MAX_CHARS:
        text = text[: _MAX_CHARS // 6] + "\n" + text[-_MAX_CHARS:]
    announced = _ANNOUNCED.sub(":  ", text)
    sentences = [sentence.strip() for sentence in _END.split(announced) if sentence.strip()]
    for i, sentence in enumerate(sentences):
        if _ITEM.match(sentence):
            continue
        firm = i == 0 or _LEAD.match(sentence) is not None
        if firm or i >= len(sentences) - 2 or ":  " in sentence or _WEIGHED.match(sentence):
            yield sentence[-_MAX_SENTENCE_CHARS:], firm


def _claimed(sentence: str, *, firm: bool) -> str | None:
    """The label of a sentence that names no other and says that it is the one."""
    sentence = _COMPARED.sub("", _LEAD.sub("", sentence))
    letters = {match[match.lastgroup or 0] for match in _LETTER.finditer(sentence)}
    if len(letters) != 1 or sentence.endswith("?") or _HEARSAY.search(sentence):
        return None
    for pattern in (_SUBJECT, _OBJECT, _AS_OPTION) if firm else (_SUBJECT, _OBJECT):
        for match in pattern.finditer(sentence):
            said = match.groupdict()
            name = next(name for name in ("named", "held", "bare") if said.get(name))
            asked = not said.get("is") or _WHAT.search(sentence[: match.start(name)])
            if asked and _is_meant(sentence, match, match.end(name)):
                return said[name]
    return None


def _is_meant(sentence: str, match: re.Match[str], end: int) -> bool:
    turn = _TURN.search(sentence, match.end())
    return not (
        denies(sentence[: match.end()])
        or (turn and denies(sentence[turn.end() :]))
        or unsettled_after(sentence, end)
        or is_joined(sentence, ascii_uppercase, end)
    )
