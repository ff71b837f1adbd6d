"""Says whether a statement is meant: what is denied, supposed, asked or left open settles nothing."""

import re

from evalmesh.scoring.letters.rare import Rare

_BREAK = re.compile(
    r"[.,;:!?\n(\u3001\u3002]|[ ](?:but|so|hence|thus|therefore|then|and|because|since|still|yet|pero|mais|aber"
    r"|sondern)\b"
    r"|所以|因此|因而|故|但|而是?|只有|よって|したがって|따라서|그러므로",
    re.IGNORECASE,
)
_FIRM = Rare(
    r"doubt|question|not only|no wonder|why not|if (?:i|you|we) (?:ha|mu|we)",
    re.compile(
        r"\b(?:no|not? any|without(?: an?y?)?|beyond)[ ](?:doubt|question)|\bnot only\b|\bno wonder\b|\bwhy not\b"
        r"|\bif (?:i|you|we) "
        r"(?:had|have|must|were forced)\b|没有疑问|毫无疑问|不难|无疑|间违いなく|間違いなく",
        re.IGNORECASE,
    ),
)
_DENYING = (
    r"n['\u2019]t\b|\b(?:not|never|neither|nor|cannot|unlikely|doubt\w*|unsure|unclear|uncertain|whether|unless"
    r"|if|suppos\w+|"
    r"assum\w+|nobody|no[ ]one|although|though|refuse\w*|no[ ]reason|pretend\w*|imagine|tempt\w*|almost|hardly"
    r"|initially|previously|at[ ]first"
    r"|many[ ](?:people|students|would)|"
    r"(?:someone|somebody|they|he|she|teacher|friend|student|author)[ ](?:\w+[ ])?"
    r"(?:said|says?|claim\w*|think\w*|thought|believe\w*)|"
    r"(?:might|could|may)[ ](?:think|say|expect|assume|argue|suspect|be)|"
    r"nicht|kein\w*|weder|wenn|falls|pas|aucune?|nunca|si|n\u00e3o|\u043d\u0435|\u043d\u0438"
    r"|\u0435\u0441\u043b\u0438)\b"
    r"|\bn['\u2019]est|不|非|别|没|沒|無|无|若|如果|假如|是否|もし|아니|아닌|않|만약"
)
_BEFORE = Rare(
    r"n(?:'|ot|ever|either|or|obody|o one|o reason|icht|unca)|cannot|un(?:likely|sure|clear|certain|less)|doubt|whether"
    r"|if|suppos|assum|though|think|thought|refuse|pretend|imagine|tempt|almost|hardly|init|previous|at first|many "
    r"|sa(?:id|y)|although|claim|believe|might|could|may|kein|we(?:der|nn)|fal|pas|aucun|si|wrong|incorrect|other|earlier|old"
    r"|mauvaise",
    re.compile(
        rf"{_DENYING}|\b(?:wrong|incorrect|false|other|previous|earlier|initial|old|falsche|incorrecta|incorrecte"
        rf"|mauvaise)[ ](?:\w+[ ])?$"
        rf"|\b(?:wrong|incorrect)[ ](?:answer|option|choice|letter)"
        r"s?[ ](?:\w+[ ]){0,3}$|(?:错误|錯誤|誤)的?$",
        re.IGNORECASE,
    ),
)
_INSIDE = re.compile(
    rf"{_DENYING}|\b(?:wrong|incorrect|false|either|both|between|among|rather|instead|could|might|may|without|"
    r"rul(?:e[sd]?|ing)[ ]out|eliminat\w+|exclud\w+|reject\w*|dismiss\w*|discard\w*|avoid\w*|except)\b|排除|错|錯|誤"
    r"|틀린|除了",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(r"(?:^|[.!?\n][ ]{0,2})(?:If|Had|Were|Unless)\b[^.!?\n]*$")
_WRONG = (
    r"(?:wrong|incorrect|false|impossible|implausible|invalid|unlikely|untrue|excluded|eliminated|inappropriate|"
    r"ruled[ ]out|out(?=[ ]*[.,;!]|$)|off[ ]the[ ]table|not\b)"
)
_DENIED_AFTER = re.compile(
    r"[)\]}\"'*]{0,3}[ ]?[:,\u2014\u2013-]{0,2}[ ]?(?:option|choice|answer|选项|項|项)?[ ]{0,2}(?:"
    rf"(?:is|was|are|were|be|being|seems?|looks?|appears|becomes|does|do|did|has|have|would|will|should"
    rf"|must)(?:n['\u2019]t\b|"
    rf"[ ](?:(?:\w{{2,10}}ly|also|now|to[ ]be|been|be|just|simply|then|thus|therefore|an?|the)[ ]){{0,3}}{_WRONG})"
    rf"|(?:cannot|can['\u2019]t|couldn['\u2019]t|won['\u2019]t|can[ ]not|could[ ]not)\b"
    r"|(?:can|may|could|might|should|must|has[ ]to)[ ]be[ ](?:ruled[ ]out|eliminated|excluded|rejected|dismissed"
    r"|discarded)"
    r"|(?:明显|显然|肯定|就|也|都|并|是|则|絕對|绝对){0,2}(?:不|错|錯|非|没|被?排除)"
    r"|でも[^\u3002\n]{0,12}(?:な[いく]|ありません)|도[ ][^\n.]{0,12}(?:아니|아닙)"
    r"|(?:で|じゃ)(?:は|も)?(?:な[いく]|ありません)|は(?:誤|間違|不|違|正しくな|適切でな)|が(?:誤|間違)"
    r"|(?:는|은|가|이)?[ ]?(?:아니|아닌|아닙|틀|옳지[ ]않|맞지[ ]않)"
    r"|n['\u2019]est[ ]pas|est[ ](?:fausse?|incorrecte?)|no[ ](?:es|lo[ ]es)\b|es[ ](?:falsa|incorrecta)"
    r"|ist[ ](?:falsch|nicht)"
    r"|n\u00e3o[ ]\u00e9|non[ ]\u00e8|\u043d\u0435\b|\u043d\u0435\u0432\u0435\u0440"
    r")",
    re.IGNORECASE,
)
_CALLED_WRONG = re.compile(
    r"[)\]}\"'*]{0,3}[ ]?[:,\u2014\u2013-]{0,2}[ ]{0,2}(?:wrong|incorrect|false|no(?=[.,;:!]))\b", re.IGNORECASE
)
_ASKED_AFTER = re.compile(
    r"[)\]}\"'*. ]{0,4}(?:\?|吗|嗎|呢|ですか|でしょうか|か(?:[\u3002?]|$)|입니까|인가|일까)"
    r"|[^.!\n\u3002]{0,60}\?(?=\s|$)"
)
_OPEN_AFTER = re.compile(
    r"[)\]}\"'*]{0,3}[ ](?:(?:could|might|may|can|would)[ ](?:also[ ])?(?:be|work|fit|apply)|if\b|unless\b"
    r"|only[ ]if\b)|かもしれ|일[ ]수도",
    re.IGNORECASE,
)


def clause_before(text: str, at: int) -> str:
    """The part of the sentence before a place that governs it: up to 100 characters, from the last break on."""
    before = _FIRM.sub(" ", text[max(0, at - 100) : at].rstrip("([{\"' :") + " ")
    return _BREAK.split(before)[-1]


def denied_before(text: str, at: int) -> bool:
    """Whether the clause before a place turns it round or leaves it open: "I doubt that ...", "if ...", "not ..."."""
    return _BEFORE.search(clause_before(text, at)) is not None


def supposed(text: str, at: int) -> bool:
    """Whether the sentence before a place sets a condition: "If it were heavy, the answer would be ..."."""
    return _SUPPOSED.search(_FIRM.sub(" ", text[max(0, at - 160) : at])) is not None


def denies(text: str) -> bool:
    """Whether a piece of text holds a denial, a supposition or a choice left open."""
    return _INSIDE.search(_FIRM.sub(" ", text)) is not None


def unsettled_after(text: str, at: int) -> bool:
    """Whether what follows a letter denies it ("B is wrong"), asks ("B?") or leaves it open ("B could work")."""
    return any(pattern.match(text, at) for pattern in (_DENIED_AFTER, _ASKED_AFTER, _OPEN_AFTER))


def called_wrong(text: str, at: int) -> bool:
    """Whether a letter that opens a line is judged there: "B: wrong", "(B) Incorrect, since ..."."""
    return _CALLED_WRONG.match(text, at) is not None
