"""What would be right and what would be wrong for a recognised prompt."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from evalmesh.simulator.knowledge import Match

AnswerKind = Literal["choice", "number", "text"]

_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(?:\.\d+)?")
_LONE_CAPITAL = re.compile(r"\b[A-Z]\b")
_MIN_TEXT = 4
_OTHER_WORDS = ("lantern", "harbour", "violet", "marble", "thistle", "compass")


@dataclass(frozen=True, slots=True)
class Option:
    """A possible answer: a letter with its text, or a value."""

    value: str
    text: str = ""
    """The option's text where a reply may give it in place of the letter; empty where that would be ambiguous."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The truth about one prompt."""

    kind: AnswerKind
    right: Option
    wrong: tuple[Option, ...]
    accepted: tuple[str, ...]
    """Every accepted target, and the right option's text."""


def answer_of(match: Match) -> Answer:
    """The right answer as this prompt letters it, and near misses of it."""
    sample = match.known.sample
    target = sample.target[0] if sample.target else ""
    index = ord(target) - ord("A") if len(target) == 1 else -1
    if sample.choices and 0 <= index < len(sample.choices):
        return _choice_answer(match)
    if parse_number(target) is not None:
        return _number_answer(sample.target)
    return _text_answer(sample.target or ("",))


def _choice_answer(match: Match) -> Answer:
    sample = match.known.sample
    texts = [choice.strip() for choice in sample.choices]
    right_indexes = {ord(letter) - ord("A") for letter in sample.target if len(letter) == 1}
    right_texts = {texts[i] for i in right_indexes if 0 <= i < len(texts)}
    first = ord(sample.target[0]) - ord("A")
    wrong = tuple(
        Option(match.letters[i], _speakable(texts, i))
        for i in range(len(texts))
        if i not in right_indexes and texts[i] not in right_texts
    )
    right = Option(match.letters[first], _speakable(texts, first))
    return Answer("choice", right, wrong, (texts[first],))


def _speakable(texts: list[str], index: int) -> str:
    """An option's text if it names this option and no other to any reader, else nothing."""
    text = texts[index]
    folded = text.casefold()
    others = [other.casefold() for i, other in enumerate(texts) if i != index]
    ambiguous = any(folded in other or other in folded for other in others)
    if len(text) < _MIN_TEXT or ambiguous or "\n" in text or _LONE_CAPITAL.search(text):
        return ""
    return text


def parse_number(text: str) -> Decimal | None:
    """The number a target is, if it is one: `18`, `1,234.5`, `-3`, `$20`."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text.replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None


def _number_answer(targets: tuple[str, ...]) -> Answer:
    accepted = {number for target in targets if (number := parse_number(target)) is not None}
    right = parse_number(targets[0]) or Decimal(0)
    wrong = tuple(Option(plain(value)) for value in _near_misses(right) if value not in accepted)
    return Answer("number", Option(plain(right)), wrong, tuple(plain(value) for value in accepted))


def _near_misses(right: Decimal) -> Iterator[Decimal]:
    yield right + 1
    yield right * 10
    yield right - 1
    yield right + 10
    if right % 10 == 0:
        yield right / 10
    yield right * 2 + 7


def plain(value: Decimal) -> str:
    """Digits only: no exponent, no zeros behind the point."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text_answer(targets: tuple[str, ...]) -> Answer:
    folded = [target.casefold() for target in targets]
    opposites = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
    opposite = opposites.get(folded[0])
    words = ((opposite,) if opposite else ()) + _OTHER_WORDS
    wrong = tuple(Option(word) for word in words if not any(target in word for target in folded if target))
    if opposite:
        wrong = wrong[:1]
    return Answer("text", Option(targets[0]), wrong, targets)
