"""Finds options by their text rather than by their letter."""

import re
from collections.abc import Sequence
from functools import lru_cache

from evalmesh.scoring.letters.none_of import kind_of_none
from evalmesh.scoring.letters.plain import narrow, unwrap
from evalmesh.scoring.letters.polarity import denies

MAX_CHARS = 2000
_PUNCTUATION = re.compile(r"[^\w\s%+\-/^<>=.]|(?<!\d)\.|\.(?!\d)")
_SPACES = re.compile(r"\s+")
_ASIDE = re.compile(r"[ ]\([^()]{1,80}\)$")
_REASON = re.compile(
    r"[.!?](?=\s|$)|[;\u3002]|,[ ](?:not|and[ ]not|so)\b|,?[ ](?:because|rather[ ]than|since|as|which|due|where)[ ]"
)


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Lower case, no emphasis, no punctuation but that of numbers and formulas, single spaces."""
    return _SPACES.sub(" ", _PUNCTUATION.sub(" ", unwrap(narrow(text)).casefold())).strip()


def option_of(text: str, labels: str, choices: Sequence[str]) -> str | None:
    """The label of the one option whose text this is; a bracket at the end of an option may be left out."""
    if not choices or len(text) > MAX_CHARS:
        return None
    wanted = normalise(text)
    if not wanted:
        return None
    for texts, plain in _forms(tuple(choices)):
        matches = [i for i, choice in enumerate(plain) if choice == wanted]
        if len(matches) > 1:  # they differ in signs alone: "(∀x)Px" and "(∃x)Px", "{1}" and "(1)"
            signs = _signs(text)
            matches = [i for i in matches if _signs(texts[i]) == signs]
            return labels[matches[0]] if len(matches) == 1 else None
        if matches:
            return labels[matches[0]]
    return None


@lru_cache(maxsize=1024)
def _forms(choices: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """The options and their normal forms; then the same without brackets at their ends."""
    short = tuple(_ASIDE.sub("", choice) for choice in choices)
    return tuple((texts, tuple(map(normalise, texts))) for texts in (choices, short))


@lru_cache(maxsize=4096)
def _signs(text: str) -> str:
    """The text with all its signs, but without spaces, emphasis and what ends a sentence or a label."""
    return _SPACES.sub("", unwrap(narrow(text)).casefold()).strip(".:)")


def option_at_start(text: str, labels: str, choices: Sequence[str]) -> str | None:
    """The label of the option that a statement opens with: "Rome", "Rome, since ..."."""
    whole = option_of(text, labels, choices)
    if whole is not None or not choices:
        return whole
    cut = _REASON.search(text)
    return option_of(text[: cut.start()], labels, choices) if cut and cut.start() > 1 else None


def starts_with_option(text: str, choice: str) -> bool:
    """Whether the text opens with the words of the option."""
    wanted = normalise(choice)
    found = normalise(text[: 2 * len(choice) + 40])
    return bool(wanted) and found.startswith(wanted) and not found[len(wanted) : len(wanted) + 1].isalnum()


def named_option(sentence: str, labels: str, choices: Sequence[str]) -> str | None:
    """The one option in whose words a sentence ends that denies and doubts nothing."""
    if not choices or denies(sentence) or "?" in sentence:
        return None
    text = normalise(sentence)
    names = [normalise(_ASIDE.sub("", choice)) for choice in choices]
    found = [i for i, name in enumerate(names) if sum(map(str.isalpha, name)) > 1 and _ends_in(text, name)]
    longest = max(found, key=lambda i: len(names[i]), default=None)  # "vitamin C" beside "C"
    if longest is None or names.count(names[longest]) > 1:
        return None
    others = (name for name in names if name != names[longest] and len(name) > 1)
    return None if any(_holds(text.removesuffix(names[longest]), name) for name in others) else labels[longest]


def none_option(said: str | None, labels: str, choices: Sequence[str]) -> str | None:
    """The label of the one option that itself says what `kind_of_none` found, "none of the above" for example."""
    matches = [i for i, choice in enumerate(choices) if len(choice) < 80 and kind_of_none(choice) == said]
    return labels[matches[0]] if said and len(matches) == 1 else None


def _ends_in(text: str, option: str) -> bool:
    before = text[-len(option) - 1 : -len(option)]
    return text.endswith(option) and not (_glues(before) and _glues(option[0]))


def _holds(text: str, option: str) -> bool:
    if not option:
        return False
    at = text.find(option)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(option) : at + len(option) + 1]
        if not (_glues(before) and _glues(option[0])) and not (_glues(after) and _glues(option[-1])):
            return True
        at = text.find(option, at + 1)
    return False


def _glues(char: str) -> bool:
    """Whether a letter or digit of a script that puts spaces between words."""
    return char.isalnum() and char < "\u1100"
