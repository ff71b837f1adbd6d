"""Statements without a marker word: "I choose B", "B is correct", "故选B", and what the last sentence concludes."""

import re
from collections import deque
from collections.abc import Sequence
from functools import lru_cache

from evalmesh.scoring.letters.labels import EDGE, is_joined, patterns, settled_letter
from evalmesh.scoring.letters.plain import last_sentences
from evalmesh.scoring.letters.polarity import denied_before, denies, unsettled_after
from evalmesh.scoring.letters.rare import Rare

MAX_STATEMENTS = 24
"""How many statements of a kind, from the end, are looked at."""

_CHOOSE = Rare(
    r"cho(?:os|se)|pick|select|go(?:ing)? with|went with|opt(?:ed)? for|take|vote for|settled? (?:on|for)"
    r"|lean(?:ing)? toward|stick|conclude|say|guess|bet on|answer",
    re.compile(
        r"(?:(?<![A-Za-z])(?:(?:I|we|you|one|it|let['\u2019]?s|let us|I['\u2019]d|I['\u2019]ll|we['\u2019]d"
        r"|we['\u2019]ll|I['\u2019]m)\s(?:[\w'\u2019]{1,12}[ ]){0,4}?"
        r"|(?:so|then|thus|therefore|hence|please|finally|and)[, ]{1,2}|(?:must|should|would|will|to)[ ])|^[ ]*)"
        r"(?:choose|chose|pick|picked|select|selected|go(?:ing)?[ ]with|went[ ]with|opt(?:ed)?[ ]for|take|vote[ ]for"
        r"|settled?[ ](?:on|for)|"
        r"lean(?:ing)?[ ]towards?|stick(?:ing)?[ ]with|conclude|say|guess|bet[ ]on|answer|choosing|picking"
        r"|selecting)(?=[ :])"
        r"(?:[ ](?:that|with|it[ ]is|it['\u2019]s|is))?[: ]{1,2}",
        re.IGNORECASE | re.MULTILINE,
    ),
)
_CHOOSE_ZH = Rare(
    "[^\\x00-\\x7f]",
    re.compile(
        r"(?:故|题|应该?|就|只能|我|必须?|因此|所以|答|最终|可|则|于是|"
        r"|^|[,\u3002;\n ])(?:应该?|当|就|会|要)?(?:选择?|選擇?)(?!项|項)[:为是 ]{0,2}(?:答案)?"
    ),
)
_RIGHT = (
    r"[)\]}\"'*.]{0,3}[ ]?(?:\([^()\n]{1,60}\)[ ]?)?(?:(?:is|seems|looks|appears|would[ ]be|must[ ]be"
    r"|has[ ]to[ ]be|should[ ]be|appears[ ]to[ ]be|"
    r"seems[ ]to[ ]be)[ ](?:\w{2,10}ly[ ]|indeed[ ]|thus[ ]|therefore[ ])?(?:the[ ])?(?:only[ ]|most[ ])?"
    r"(?:correct|right|best|appropriate|accurate|(?=answer))[ ]?(?:one|answer|option|choice|letter|match)?"
    r"(?=[ ]*(?:[.,;!:)\n\u2014]|$|because\b|since\b|as\b|here\b|for[ ]this[ ]question|to[ ]this[ ]question))"
    r"|(?:选项|項|项)?[ ]?(?:才|就|明显|显然|应该|应|肯定|则|也)?"
    r"(?:是|为|為)?(?:唯一)?(?:正确|正確|对的|對的|合适|合適|符合题意|对(?=[\u3002,]|$))"
    r"|(?:の(?:み|方|選択肢))?(?:が|こそ)(?:最も)?(?:正解|正し|適切|正答|答え)|を選(?:び|ぶ|択)"
    r"|(?:번)?(?:가|이|만|를|을)?[ ]?(?:정답|맞|옳|올바|선택)"
    r"|(?:es|est|ist|\u00e8|\u00e9)[ ](?:la[ ]|die[ ])?(?:correcta|bonne|correcte|richtig|korrekt|corretta|correta)"
    r"|(?:верн|правильн))"
)
_NAMED_OTHER = re.compile(
    r"(?:statements?|sentences?|claims?|assertions?|images?|points?|person|box|vitamins?|group|type|class|grade"
    r"|figure|case|step|part)[ (]{1,2}$",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"(?:\b(?:(?:it|that|this|which)(?:['\u2019]s|[ ](?:is|must[ ]be|has[ ]to[ ]be|should[ ]be|would[ ]be"
    r"|can[ ]only[ ]be|leaves(?:[ ]us[ ]with)?|"
    r"corresponds[ ]to|matches|points[ ]to))|must[ ]be|leav(?:es|ing)(?:[ ]us[ ]with)?|left[ ]with"
    r"|go(?:ing)?[ ]with|my[ ](?:pick|guess|bet)[ ]is|"
    r"the[ ]correct[ ](?:one|statement|response)[ ]is|(?:corresponds?|closest)[ ]to|matches)\b"
    r"|\b(?:had|have|forced)[ ]to[ ](?:guess|choose|pick|say),|^[ ]*(?:\u2192|\u21d2|\u2234|[-=]>)|只有"
    r"|我认为是|我認為是"
    r"|应该?是|應該是|剩下|就是|即|排除后为)[ :]{0,2}",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"\b(?:so|thus|therefore|hence|consequently|finally|conclusion|overall)\b[,: ]{1,3}", re.IGNORECASE
)


def chosen(text: str, labels: str, start: int = 0) -> str | None:
    """The last letter that is picked ("I choose B", "故选B") or called right ("B is correct").

    Returns "" where two letters are called right.
    """
    best: tuple[int, str] | None = None
    for pattern in (_CHOOSE, _CHOOSE_ZH):
        for match in deque(pattern.finditer(text, start), maxlen=MAX_STATEMENTS):
            letter = _taken(text, match, labels)
            if letter is not None and (best is None or match.end() > best[0]):
                best = (match.end(), letter)
    right: dict[str, int] = {}
    for match in deque(_right(labels).finditer(text, start), maxlen=MAX_STATEMENTS):
        if not _misread(text, match.start(), match.end()):
            right[match[1]] = match.end()
    last = max(right.values(), default=-1)
    if best is not None and (best[0] > last or len(right) > 1):
        return best[1]
    if right:
        return next(iter(right)) if len(right) == 1 else ""
    return best[1] if best else None


@lru_cache(maxsize=64)
def _right(labels: str) -> re.Pattern[str]:
    most = (
        r"[)\]][ ](?:is|seems[ ]to[ ]be|appears[ ]to[ ]be)[ ](?:the[ ])?(?:more|most)[ ](?:similar|likely"
        r"|appropriate|suitable|accurate)\b"
    )
    return re.compile(rf"{EDGE}[(\[\"']?([{labels}])(?:{_RIGHT}|{most})", re.MULTILINE)


def _taken(text: str, match: re.Match[str], labels: str) -> str | None:
    if denied_before(text, match.end()) or "?" in text[match.end() : match.end() + 8]:
        return None
    line = text[match.end() : match.end() + 120].partition("\n")[0]
    letter = settled_letter(line, labels)
    return letter if letter is not None else _apposed(line, labels)


_ONE_OF_SEVERAL = re.compile(
    rf"(?:\b(?i:nor|both|either|is|if|only[ ]if)|{EDGE}[A-Z][)\]]?(?:[,/\u3001]|[ ](?:and|or))|[和与或及とや와과])[ ]?"
    r"(?:(?i:option|choice|answer|选项)[ ])?[(]?$"
)
_NOT_AFTER_ALL = re.compile(r"(?:です|の)?(?:이|가)?[ ]?(?:아니|아닌|아닙)|で(?:は|も)?(?:な|あり)|じゃ|く(?:な|あり)")


def _misread(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 40) : start]
    return bool(
        denied_before(text, start)
        or text[end : end + 1] == "?"
        or _NOT_AFTER_ALL.match(text, end)
        or re.match(r"[^.!\n\u3002]{0,40}(?:\?|吗|嗎)", text[end : end + 42])
        or _NAMED_OTHER.search(before)
        or _ONE_OF_SEVERAL.search(before)
    )


def _apposed(line: str, labels: str) -> str | None:
    """The letter that explains a few words: "the brick, B.", "the brick (B)"."""
    match = re.match(
        rf"(?:[^\W\d_][\w'\u2019-]{{0,20}}[ ]?){{1,6}}(?:,[ ]?(?:so[ ]|which[ ]is[ ]|i\.e\.,?[ ])?(?:option[ ]"
        rf"|choice[ ])?([{labels}])(?=[.!\u3002]?[ ]*$|[.!\u3002][ ])|[ ]?[(\[](?:option[ ]"
        rf"|choice[ ])?([{labels}])[)\]])",
        line,
    )
    if match is None or denies(line[: match.end()]):
        return None
    at = match.end()
    if unsettled_after(line, at) or is_joined(line, labels, at):
        return None
    return match[1] or match[2]


@lru_cache(maxsize=64)
def _said(labels: str) -> re.Pattern[str]:
    """A verb and a label in the form of a list: "the capital is B. Rome", "it is known as (B)"."""
    return re.compile(
        rf"\b(?:is|are|be|was)(?:[ ](?:known[ ]as|called))?[ ]?[: ][\"']{{0,2}}(?:\(([{labels}])\)"
        rf"|([{labels}])[).:](?=[ ][^\s]|$))"
    )


def concluded(text: str, labels: str) -> str | None:
    """The letter on which the last or the last but one sentence concludes: "It must be B.", "so (B)."."""
    for count, sentence in enumerate(last_sentences(text)):
        if count == 2 or sentence.endswith("?"):
            return None
        found: str | None = None
        for match in _CUE.finditer(sentence):
            if not denied_before(sentence, match.end()):
                letter = settled_letter(sentence, labels, match.end(), capital=True)
                found = letter if letter is not None else _apposed(sentence[match.end() :], labels) or found
        for match in _CONNECTIVE.finditer(sentence):
            rest = sentence[match.end() :]
            firm = re.match(
                rf"(?:[(\[]([{labels}])[)\]]|(?:option|choice|answer)?[ ]?([{labels}])(?=[.!\u3002]|,[ ](?:because"
                rf"|since|not)\b))[.!\u3002]?(?=[ ]*$|,[ ])",
                rest,
            )
            if firm and not denied_before(sentence, match.start()):
                found = firm[1] or firm[2]
        if found is None and "nswer" not in sentence:  # what an answer is said to be, the markers have read
            found = _only_one(sentence, labels)
        if found is not None:
            return found
    return None


def _only_one(sentence: str, labels: str) -> str | None:
    found = {(match[1] or match[2], match.start(match.lastindex or 0)) for match in _said(labels).finditer(sentence)}
    if len(found) != 1 or sentence[-1] not in ".!\u3002)]\"'":
        return None
    letter, start = found.pop()
    end = start + 1
    others = {match[:] for match in patterns(labels).item.findall(sentence)}
    if (
        len(others) > 1
        or denied_before(sentence, start)
        or unsettled_after(sentence, end)
        or is_joined(sentence, labels, end)
    ):
        return None
    return str(letter)


def listed(lines: Sequence[str], labels: str) -> set[str]:
    """The labels that open a line."""
    pattern = patterns(labels).line_start
    return {match[1] or match[2] or match[3] for match in map(pattern.match, lines) if match}
