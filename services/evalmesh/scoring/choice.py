"""Scores multiple choice answered in free text: finds the label of the option that a completion settles on.

Explicit statements come first, guesses last, and an ambiguous guess is no answer. A label is never read out of a
word: "Default output" is not D, the article in "A dog" is not A, and the pronoun I is not the ninth option.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.extractors import Extraction, last_boxed, marker_tails, strip_thinking
from evalmesh.scoring.final_answer import answered, no_answer

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAX_LINES = 400
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|boxed|fbox)\s?\{([^{}]{0,200})\}")
_LATEX_NOISE = re.compile(r"\\[()\[\]]|[$*`]|\\(?=[ ,;])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_PUNCTUATION = re.compile(r"[^\w\s%+\-/^<>=.]|(?<!\d)\.|\.(?!\d)")
_SPACES = re.compile(r"\s+")
_OPTION_MARK = re.compile(
    r"(?:correct|right|best|final|my)[ ](?:option|choice|letter)(?:[ ]is)?\b[ :]{0,3}", re.IGNORECASE
)
_IS_RIGHT = r"[)\].]{0,2}[ ](?:is|seems|would[ ]be)[ ](?:the[ ])?(?:correct|right|best)\b"


_NO_VERB = r"(?![ ](?:is|was|can|could|would|and|or|does|seems)\b)"


class _Patterns(NamedTuple):
    """Compiled for one set of labels."""

    after_marker: re.Pattern[str]
    alone: re.Pattern[str]
    line_start: re.Pattern[str]
    bracketed: re.Pattern[str]
    is_right: re.Pattern[str]
    standalone: re.Pattern[str]
    line_end: re.Pattern[str]
    two: re.Pattern[str]


@lru_cache(maxsize=64)
def _patterns(labels: str) -> _Patterns:
    upper, both = f"[{labels}]", f"[{labels}{labels.lower()}]"
    # The article and the pronoun count only where nothing but punctuation follows or brackets surround them.
    safe = "".join(c for c in labels if c not in "AI")
    words = r"(?:because|since|as|is|due|with|for|which|according|\u2014|-)"
    plain = rf"{upper}(?=[ ]*$|[ ]*[).:,;\]\-\u2014\u2013(\u3002\uff0c]|[ ]{words}\b)" + (
        rf"|[{safe}](?=[ ])" if safe else ""
    )
    return _Patterns(
        after_marker=re.compile(
            rf"[ \t(\[{{\"':]{{0,6}}(?:(?:option|choice|letter|answer)[ ]|[(\[\"'])?"
            rf"(?:[(\[]\s?(?P<a>{both})\s?[)\]]|(?P<b>{plain})|(?P<c>{both})(?=[)\]\"'. ]{{0,4}}$))(?![\w'\u2019])",
        ),
        alone=re.compile(rf"[(\[\"' ]{{0,3}}(?:(?:option|choice)[ ])?({both})[)\]\"'. :,!]{{0,4}}", re.IGNORECASE),
        line_start=re.compile(
            rf"[ \t>#-]{{0,6}}(?:[(\[]({upper})[)\]]|({upper})(?:[).:]|[ ]?$))(?![\w'\u2019]){_NO_VERB}"
        ),
        bracketed=re.compile(rf"[(\[]({upper})[)\]]"),
        is_right=re.compile(rf"(?<![\w'\u2019])({upper}){_IS_RIGHT}"),
        standalone=re.compile(rf"(?<![\w'\u2019.\-/]){upper}(?![\w'\u2019/+#]|-\w|\.\w)"),
        line_end=re.compile(rf"(?<![\w'\u2019])({upper})[)\].!\"']{{0,3}}$"),
        two=re.compile(
            rf"(?<![\w'\u2019])(?:{upper})[)\]]?[ ]?(?:,[ ]?(?:or|and)?|or|and|/|&|vs\.?)"
            rf"[ ]?[(\[]?(?:{upper})(?![\w'\u2019])"
        ),
    )


def score_choice(sample: Sample, completion: Completion) -> Score:
    """1.0 when the completion settles on a target letter, else 0.0."""
    extraction = extract_choice(completion.text, labels_of(sample), sample.choices)
    if extraction is None:
        return no_answer(completion)
    return answered(completion, extraction, sample, correct=extraction.answer in sample.target)


def labels_of(sample: Sample) -> str:
    """The valid letters: one per option; A to D (or up to the target) for a sample without option texts."""
    if sample.choices:
        return ALPHABET[: len(sample.choices)]
    last = max((ALPHABET.find(target) for target in sample.target if len(target) == 1), default=0)
    return ALPHABET[: max(4, last + 1)]


def extract_choice(text: str, labels: str, choices: Sequence[str] = ()) -> Extraction | None:
    """The letter a completion settles on, and which rule found it."""
    visible = strip_thinking(text).strip()
    if not visible:
        return None
    if len(visible) == 1 and visible in labels:
        return Extraction(visible, "letter")
    search = _Search(visible, labels, choices)
    rules: tuple[tuple[str, Callable[[], str | None]], ...] = (
        ("letter", search.whole_reply),
        ("boxed", search.boxed),
        ("answer-marker", search.marker),
        ("leading-label", search.leading_label),
        ("option-text", search.option_text),
        ("stated-right", search.stated_right),
        ("last-label", search.last_label),
        ("bracketed", search.bracketed),
        ("line-end", search.line_end),
        ("standalone-letter", search.standalone),
    )
    for name, rule in rules:
        found = rule()
        if found is not None:
            return Extraction(found, name) if found else None
    return None


class _Search:
    """One completion being searched.

    Each method is one rule and returns a letter, `None` (ask the next rule) or "" (two letters were named: no answer).
    """

    def __init__(self, text: str, labels: str, choices: Sequence[str]) -> None:
        self.text = text
        self.labels = labels
        self.choices = choices
        self.patterns = _patterns(labels)
        self._plain: str | None = None

    @property
    def plain(self) -> str:
        """The text without emphasis and math mode, made once when a rule needs it."""
        if self._plain is None:
            self._plain = _unwrap(self.text)
        return self._plain

    def whole_reply(self) -> str | None:
        if len(self.text) > 40:
            return None
        match = self.patterns.alone.fullmatch(_unwrap(self.text).strip())
        return match[1].upper() if match else None

    def boxed(self) -> str | None:
        content = last_boxed(self.text)
        return None if content is None else self._label_or_option(content)

    def marker(self) -> str | None:
        for tail in marker_tails(self.text):
            found = self._of_tail(tail)
            if found is not None:
                return found
        end = self.text[-2000:]
        if not any(word in end for word in ("option", "choice", "letter")):
            return None
        found = None
        for match in _OPTION_MARK.finditer(end):
            found = self._of_tail(end[match.end() : match.end() + 200]) or found
        return found

    def leading_label(self) -> str | None:
        """The reply opens with one label, and no other line does: a list of all options is no answer."""
        if self.patterns.line_start.match(_unwrap(self.text[:40])) is None:
            return None
        found: set[str] = set()
        for line in self.plain.split("\n", _MAX_LINES):
            match = self.patterns.line_start.match(line)
            if match:
                found.add(match[1] or match[2])
        return found.pop() if len(found) == 1 else None

    def option_text(self) -> str | None:
        if not self.choices or len(self.text) > 20_000:
            return None
        first, last = self.plain.partition("\n")[0], self.plain.rpartition("\n")[2]
        for candidate in (self.plain, last, first):
            label = self._option(candidate)
            if label is not None:
                return label
        return None

    def stated_right(self) -> str | None:
        found = set(self.patterns.is_right.findall(self.plain))
        return found.pop() if len(found) == 1 else None

    def last_label(self) -> str | None:
        """The last line opens with a label and the line before it does not, which sets it apart from a list."""
        lines = [line for line in self.plain.rsplit("\n", 8) if line.strip()][-2:]
        match = self.patterns.line_start.match(lines[-1]) if lines else None
        if match is None or (len(lines) > 1 and self.patterns.line_start.match(lines[0])):
            return None
        return match[1] or match[2]

    def bracketed(self) -> str | None:
        found = self.patterns.bracketed.findall(self.plain)
        if not found:
            return None
        last_line = self.plain.rpartition("\n")[2]
        if self.patterns.two.search(last_line):
            return ""
        return str(found[-1]) if len(set(found)) == 1 or found[-1] in last_line else None

    def line_end(self) -> str | None:
        line = self.plain.rpartition("\n")[2].rstrip()
        match = self.patterns.line_end.search(line[-200:])
        if match is None or (match[1] == "I" and line != "I"):
            return None
        return "" if self.patterns.two.search(line[-40:]) else match[1]

    def standalone(self) -> str | None:
        found = set()
        for match in self.patterns.standalone.finditer(self.plain):
            letter = match.group()
            if letter in "AI" and self.plain[match.end() : match.end() + 1] not in {"", ".", ")", ",", ":", ";", "\n"}:
                continue
            found.add(letter)
        return found.pop() if len(found) == 1 else None

    def _of_tail(self, tail: str) -> str | None:
        line = _unwrap(tail.lstrip(" \t\r\n*_`:#>-")).partition("\n")[0].strip()
        match = self.patterns.after_marker.match(line)
        option = self._option(line) if match and " " in line else None
        if option is not None:
            return option  # "C major" may be an option of its own
        if match is None:
            return self._option(line) or self._option(line.partition(". ")[0])
        if self.patterns.two.match(line, match.start(match.lastgroup or 0)):
            return ""
        return str(match["a"] or match["b"] or match["c"]).upper()

    def _label_or_option(self, content: str) -> str | None:
        plain = _unwrap(content).strip()
        match = self.patterns.alone.fullmatch(plain) or self.patterns.line_start.match(plain)
        if match is None:
            return self._option(plain)
        return str(next(group for group in match.groups() if group)).upper()

    def _option(self, text: str) -> str | None:
        """The label of the one option whose text this is."""
        if not self.choices or len(text) > 2000:
            return None
        wanted = _normalise(text)
        if not wanted:
            return None
        matches = [i for i, choice in enumerate(self.choices) if _normalise(choice) == wanted]
        return self.labels[matches[0]] if len(matches) == 1 else None


def _unwrap(text: str) -> str:
    if "\\" in text:
        text = _WRAPPER.sub(r"\1", _WRAPPER.sub(r"\1", text))
    if any(char in text for char in "\\$*`_"):
        text = _LATEX_NOISE.sub("", text)
    return text


@lru_cache(maxsize=4096)
def _normalise(text: str) -> str:
    return _SPACES.sub(" ", _PUNCTUATION.sub(" ", _unwrap(text).casefold())).strip()
