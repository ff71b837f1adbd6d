"""Recognises a reply that says none of the options is right, or that it cannot answer."""

import re

from evalmesh.scoring.letters.rare import Rare

_SET = (
    r"(?:above|options?|choices?|answers?|alternatives?|possibilities|statements?|these|those|them|given"
    r"|listed|provided|following)"
)
_GIVE = (
    r"(?:answer|determine|decide|choose|select|pick|tell|say|give|provide|identify|know|help|assist|solve"
    r"|conclude|see|view)"
)
_NONE = Rare(
    r"n(?:one|inguna|essuna|enhuma|either|ot (?:an?|any|among|one|listed|in) |o ?[acglmorsv])|aucun|kein",
    re.compile(
        rf"\bnone[ ]of[ ](?:(?:the|these|those|my|your|its)[ ])?(?:(?:given|listed|provided|available|four|five|ten"
        rf"|offered|answer)[ ])?{_SET}\b"
        r"|\bnone[ ](?:is|are)[ ](?:correct|right)\b|^[ ]*none\b(?=[ ]*[.!]?[ ]*$)"
        r"|\b(?:no|not[ ]an?[ ]|neither)[ ]?(?:correct|right|valid|suitable|matching|given|listed)?[ ]?(?:option"
        r"|choice|answer|alternative)s?"
        r"[ ](?:is|are|was|can[ ]be|matches|fits|works|given|listed|provided|applies)\b"
        r"|\bno[ ](?:correct|right|valid|suitable|matching)[ ](?:option|choice|answer|alternative)s?\b"
        r"|\bnot[ ](?:any[ ]of|among|one[ ]of|listed|in)[ ](?:the|these|those)[ ](?:\w+[ ])?(?:options?|choices?"
        r"|answers?|list)\b"
        r"|(?:都|均|皆|全部?)(?:不(?:对|正确|是|符合|成立|选|行|可能)|错误?|非)|没有(?:一个)?(?:正确|合适|符合)|无正确|该当(?:する選択肢)?(?:なし|がない)"
        r"|該当(?:する選択肢)?(?:なし|がない|は?ありません)|(?:どれ|いずれ)も(?:正しくな|違|該当しな|不正解)"
        r"|(?:정답|답|보기|해당)이?[ ]?(?:없|아님)|모두[ ](?:틀|아니|오답)"
        r"|\bninguna[ ]de[ ]las\b|\baucune?[ ](?:des|de[ ]ces)\b|\bkeine?[ ]der\b|\bnessuna[ ]delle\b"
        r"|\bnenhuma[ ]das\b|\bни[ ]один\b",
        re.IGNORECASE,
    ),
)
_CANNOT = Rare(
    r"can ?not|can'?t|could ?n|unable|do(?: not|n't)|decline|won't|will not|refuse|impossible"
    r"|no(?:t (?:able|sure|certain|enough)| puedo)|je ne",
    re.compile(
        r"\b(?:I|we)(?:[ ]?(?:am|are|['\u2019]m|['\u2019]re))?[ ](?:cannot|can['\u2019]?t|can[ ]not"
        r"|could[ ]?n['\u2019o]t|unable[ ]to|do[ ]not|"
        rf"don['\u2019]t|won['\u2019]t|will[ ]not|refuse[ ]to|not[ ](?:able[ ]to|sure|certain)"
        rf"|decline[ ]to)(?:[ ]\w{{2,12}}ly)?(?:[ ]{_GIVE}\b|(?<=sure)|(?<=certain))"
        rf"|\b(?:cannot|can['\u2019]t|unable[ ]to|impossible[ ]to)[ ](?:be[ ])?(?:answer|determine|decide)d?\b"
        r"|(?:无法|不能)(?:确定|判断|回答|选择|作答|得出)|不(?:知道|确定|清楚)|無法|(?:わか|分か)りません|わからない|答えられ(?:ない|ません)"
        r"|알[ ]수[ ]없|모르겠|답할[ ]수[ ]없|\bno[ ](?:puedo|s\u00e9)\b|\bje[ ]ne[ ](?:peux|sais)\b"
        r"|\bnot[ ]enough[ ]information\b",
        re.IGNORECASE,
    ),
)
_PARTLY_AFTER = re.compile(
    r"[ ,:(]{0,3}(?:(?:except|but|other[ ]than|besides|apart|save)\b|[A-Z](?![A-Za-z'\u2019])(?<!I)|除了|以外)"
)
_PARTLY_BEFORE = re.compile(r"(?<![A-Za-z'\u2019])(?:[A-H]|[J-Z]|I(?=[,\u3001]))(?=[ ,\u3001和与及)])")
_LISTED = re.compile(r"[\s*#>(-]{0,6}(?:[Oo]ption )?(?:[A-H]|[J-Z]|I(?=[.):]))[.):* -]")
"""The start of a line that goes through an option: "G. None of the above is ..."."""
_SENTENCE = re.compile(
    r"(?:^|[.!?\n\u3002][ \n*(]*)(?:(?:so|therefore|thus|hence|wait|actually|no|hmm|sorry|however|but"
    r"|on[ ]second[ ]thought|i[ ]think|所以|因此)[, ]{1,3}){0,3}$",
    re.IGNORECASE,
)


def kind_of_none(text: str, at: int | None = None) -> str | None:
    """Says "none" where a text says that no option is right, "cannot" where it says that there is no telling.

    With a place, the text must say so right there.
    """
    for kind, pattern in (("none", _NONE), ("cannot", _CANNOT)):
        if at is None and pattern.search(text):
            return kind
        match = None if at is None else pattern.match(text, at)
        if match and not _partly(text, match):
            return kind
    return None


def last_none(text: str) -> int:
    """Where the last such statement starts, or -1. "None of A, C and D" and "none but B" are no such statement."""
    at = -1
    for pattern in (_NONE, _CANNOT):
        for match in pattern.finditer(text):
            if match.start() > at and not _partly(text, match):
                at = match.start()
    return at


def closing_none(text: str) -> int:
    """Like `last_none`, for statements that are sentences of their own and not the reason of another."""
    at = last_none(text)
    return at if at >= 0 and _SENTENCE.search(text, max(0, at - 80), at) else -1


def _partly(text: str, match: re.Match[str]) -> bool:
    """Whether letters before or behind in the sentence say which options are meant."""
    if _PARTLY_AFTER.match(text, match.end()):
        return True
    line = text.rfind("\n", max(0, match.start() - 120), match.start()) + 1
    if _LISTED.match(text, line, match.start()):
        return True
    start = max(match.start() - 40, 0)
    start = max([start, *(text.rfind(end, start, match.start()) + 1 for end in ".\n\u3002;!?")])
    return _PARTLY_BEFORE.search(text, start, match.start()) is not None
