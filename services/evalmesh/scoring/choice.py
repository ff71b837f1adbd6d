"""Scores multiple choice answered in free text: finds the label of the option that a completion settles on.

The rules go from what is said outright to what is only implied. A letter that is denied, left open or merely mentioned
is no answer, and no rule knows one letter from another: scores must not depend on where the right option stands.
docs/guides/how-answers-are-read.md tells users the rules in their order.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.extractors import Extraction, last_boxed, strip_thinking
from evalmesh.scoring.final_answer import answered, no_answer
from evalmesh.scoring.letters.labels import patterns
from evalmesh.scoring.letters.markers import markers, plain_last_line, read_marker
from evalmesh.scoring.letters.none_of import closing_none, kind_of_none, last_none
from evalmesh.scoring.letters.options import named_option, none_option, option_of, starts_with_option
from evalmesh.scoring.letters.plain import narrow, unwrap, without_end_token
from evalmesh.scoring.letters.polarity import called_wrong, denied_before, denies, unsettled_after
from evalmesh.scoring.letters.statements import chosen, concluded, listed

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAX_LINES = 400
_MAX_REPLY_CHARS = 150
"""How long a reply may be whose one sentence names an option."""
_MAX_SHORT_CHARS = 40
"""Up to here a reply need not end like a sentence: "(B) the second image"."""
_ONE_SENTENCE = re.compile(r"(?:[^.!?\n\u3002]|\.(?=\w))+[.!\u3002]")
_ANNOUNCES = re.compile(r"\b(?:is|be|choose|pick|select|with)[ ]?:$", re.IGNORECASE)
"""Ends of a line that promise the answer: "the matching city is:"."""
_LEAD = re.compile(
    r"(?:(?:I[ ]think|so|therefore|thus|hence|clearly),?[ ](?:that[ ])?)?(?:it|that|this)(?:['\u2019]s|[ ](?:is"
    r"|must[ ]be|would[ ]be|has[ ]to[ ]be))[ ]",
    re.IGNORECASE,
)
_MAX_STATED_CHARS = 6000
"""How much of the end is searched for statements without a marker."""
_SHORTEST_NONE_CHARS = 20
"""A marker, a letter and a "none of them" behind it do not fit into fewer."""
_SMALL_LABEL = re.compile(r"\(?([a-z])[).][ ]([^\n]+)")
_NUMBERING = re.compile(r"\s*(?:\d|\d{1,2}[.)]\W*)")
"""The start of a step that is missing: "2. " is not the option "2"."""
_MORE = re.compile(r"[.!?\u3002]\s|\n")
_ENDS = ".!\u3002)]}\"'*`$:>"


def score_choice(sample: Sample, completion: Completion) -> Score:
    """1.0 when the completion settles on a target letter, else 0.0."""
    cut = completion.finish_reason == "length"
    extraction = extract_choice(completion.text, labels_of(sample), sample.choices, cut=cut)
    if extraction is None:
        return no_answer(completion)
    return answered(completion, extraction, sample, correct=extraction.answer in sample.target)


def labels_of(sample: Sample) -> str:
    """The valid letters: one per option; A to D (or up to the target) for a sample without option texts."""
    if sample.choices:
        return ALPHABET[: len(sample.choices)]
    last = max((ALPHABET.find(target) for target in sample.target if len(target) == 1), default=0)
    return ALPHABET[: max(4, last + 1)]


def extract_choice(text: str, labels: str, choices: Sequence[str] = (), *, cut: bool = False) -> Extraction | None:
    """The letter a completion settles on, and which rule found it.

    `cut`: the completion ended at its token limit, so what it implies is not what it would have said in the end; only a
    letter alone, a box or a marker count.
    """
    visible = without_end_token(narrow(strip_thinking(text)).strip())
    if not visible:
        return None
    if len(visible) == 1 and visible in labels:
        return Extraction(visible, "letter")
    search = _Search(visible, labels, choices)
    found = search.first_of(search.explicit())
    if found is None and not cut and not search.unfinished:
        found = search.first_of(search.implied())
    return found if found and found.answer else None


_Rules = tuple[tuple[str, Callable[[], str | None]], ...]


class _Search:
    """One completion being searched.

    Each method is one rule and returns a letter, `None` (ask the next rule) or "" (undecided, or none of the options is
    right: no answer).
    """

    def __init__(self, text: str, labels: str, choices: Sequence[str]) -> None:
        self.text = text
        self.labels = labels
        self.choices = choices
        self.patterns = patterns(labels)
        self.denied: set[str] = set()
        """Letters that a marker took back: "Wait, the answer is not B"."""

    def explicit(self) -> _Rules:
        """What is said outright: it counts in texts that break off, too."""
        return ("letter", self.whole_reply), ("boxed", self.boxed), ("answer-marker", self.marker)

    def implied(self) -> _Rules:
        """What a finished reply implies."""
        return (
            ("option-text", self.option_text),
            ("stated", self.stated),
            ("conclusion", self.conclusion),
            ("leading-label", self.leading_label),
            ("last-label", self.last_label),
        )

    def first_of(self, rules: _Rules) -> Extraction | None:
        """What the first rule says that has something to say."""
        for name, rule in rules:
            found = rule()
            if found is not None and found not in self.denied:
                return Extraction(found, name)
        return None

    @cached_property
    def plain(self) -> str:
        """The text without emphasis and math mode."""
        return unwrap(self.text).strip()

    @cached_property
    def lines(self) -> list[str]:
        """The lines that say something."""
        return [line for line in self.plain.split("\n", _MAX_LINES) if line.strip()]

    @cached_property
    def unfinished(self) -> bool:
        """Whether the text breaks off: it is not short and ends unlike a sentence, a label or an option."""
        if not self.plain:
            return True
        if self.plain[-1] in _ENDS or len(self.plain) <= _MAX_SHORT_CHARS:
            return False
        line = self.lines[-1].strip()
        if self.patterns.last.search(line):
            return False
        return (
            option_of(line, self.labels, self.choices) is None
            and option_of(self.patterns.line_start.sub("", line), self.labels, self.choices) is None
        )

    def whole_reply(self) -> str | None:
        if len(self.text) > 40:
            return None
        match = self.patterns.alone.fullmatch(unwrap(self.text).strip())
        return match[1].upper() if match else None

    def boxed(self) -> str | None:
        content = last_boxed(self.text)
        if content is None or denied_before(self.text, max(self.text.rfind("\\boxed"), self.text.rfind("\\fbox"))):
            return None
        plain = unwrap(content).strip()
        match = self.patterns.alone.fullmatch(plain) or self.patterns.line_start.match(plain)
        if match is None:
            return option_of(plain, self.labels, self.choices)
        return str(next(group for group in match.groups() if group)).upper()

    def marker(self) -> str | None:
        asked = plain_last_line(self.text, self.labels)
        if asked is not None:
            return asked
        for marker in markers(self.text):
            found = read_marker(marker, self.labels, self.choices)
            if found is None:
                continue
            if found.startswith("!"):
                self.denied.add(found[1:])
                continue
            rest = self.text[marker.at :]
            none_at = closing_none(rest) if found and len(rest) > _SHORTEST_NONE_CHARS else -1
            if none_at > 0:
                return none_option(kind_of_none(rest, none_at), self.labels, self.choices) or ""
            return (
                found
                if marker.strong or last_none(self.text[max(0, marker.at - _MAX_STATED_CHARS) : marker.at]) < 0
                else ""
            )
        return None

    def stated(self) -> str | None:
        """What is picked or called right; behind the last "none of the above", if there is one."""
        end = self.plain[-_MAX_STATED_CHARS:]
        none_at = last_none(end)
        found = chosen(end, self.labels, max(none_at, 0))
        if found is None and none_at >= 0:
            closing = end[-1] in _ENDS and _MORE.search(end, none_at) is None
            kind = kind_of_none(end, none_at) if closing else None
            return none_option(kind, self.labels, self.choices) or ""
        return found

    def option_text(self) -> str | None:
        """The reply or its last paragraph is an option, or its one sentence says no more than that.

        A sentence that ends in the name of an option which holds a letter names the option: "... a lack of vitamin C."
        """
        if not self.choices or len(self.text) > 20_000 or not self.lines:
            return None
        candidates = [self.plain]
        if len(self.lines) <= 2 or self.plain.rpartition("\n\n")[2].strip() == self.lines[-1].strip():
            candidates += (self.lines[-1], self.lines[0])
        for candidate in candidates:
            words = candidate[:-4] if self.patterns.firm.fullmatch(candidate[-3:]) else candidate  # "lead (B)"
            label = option_of(words, self.labels, self.choices)
            if label is not None and not _NUMBERING.fullmatch(candidate):
                return label if words == candidate or candidate[-2] == label else None
        if len(self.plain) > _MAX_REPLY_CHARS or not _ONE_SENTENCE.fullmatch(self.plain):
            return None
        lead = _LEAD.match(self.plain)
        label = option_of(self.plain[lead.end() :], self.labels, self.choices) if lead else None
        label = label or named_option(self.plain, self.labels, self.choices)
        if label is None or lead:
            return label
        named = self.plain.rstrip(" .!\u3002")[-len(self.choices[self.labels.index(label)]) :]
        return label if self.patterns.anywhere.search(named) else None

    def conclusion(self) -> str | None:
        return concluded(self.plain, self.labels)

    def leading_label(self) -> str | None:
        """The reply opens with one label, and no other line does: a list of all options is no answer."""
        small = _SMALL_LABEL.fullmatch(self.plain)
        if small and small[1].upper() in self.labels:  # "b) lead"
            label = small[1].upper()
            return label if option_of(small[2], self.labels, self.choices) == label else None
        match = self.patterns.line_start.match(self.lines[0]) if self.lines else None
        if match is None or len(listed(self.lines, self.labels)) > 1:
            return None
        letter = str(match[1] or match[2] or match[3])
        return letter if self._goes_on_as_answer(letter, self.lines[0], match.end()) else None

    def _goes_on_as_answer(self, letter: str, line: str, end: int) -> bool:
        """Whether what follows a label at the start is its option, a reason, or a sentence that denies nothing."""
        rest = line[end:]
        reason = rest.lstrip(" ,-\u2014\u2013:").lower().startswith(("because", "since"))
        if self.choices and starts_with_option(rest, self.choices[self.labels.index(letter)]):
            return self.plain[-1] in _ENDS or option_of(rest, self.labels, self.choices) == letter
        if unsettled_after(line, end) or called_wrong(line, end):
            return False
        if reason or rest[:1].islower() or self.patterns.alone.fullmatch(rest.strip()):  # "A: B" is no answer
            return reason
        sentence = rest.lstrip(" ").partition(". ")[0]
        return not (denies(sentence) or "?" in sentence or self.patterns.item.search(rest))

    def last_label(self) -> str | None:
        """The last line is a label, alone or with its option; not the last of a list."""
        if len(self.lines) < 2:
            return None
        line, before, labels = self.lines[-1], self.lines[-2].rstrip(), listed(self.lines[:-1], self.labels)
        match = self.patterns.line_start.match(line)
        if match is None or (labels and (match[1] or match[2] or match[3]) not in labels):
            return None
        announced = _ANNOUNCES.search(before)
        if self.patterns.line_start.match(before) or (before[-1] == ":" and not announced and not labels):
            return None
        letter, rest = str(match[1] or match[2] or match[3]), line[match.end() :].strip(" .:)")
        if not rest:
            alone = match[3] is None or line.strip() == letter
            return letter if alone and before[-1] in _ENDS else None
        return (
            letter
            if (announced and line.rstrip()[-1] in _ENDS) or option_of(rest, self.labels, self.choices) == letter
            else None
        )
