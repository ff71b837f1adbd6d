"""Which benchmark sample a prompt is about."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from string import ascii_uppercase

from evalmesh.simulator.options import is_labelled, locate_letters
from evalmesh.simulator.skill import KnownSample, Skill, is_right

_SIZES = (64, 32, 16, 8)
_MIN_SIZE = _SIZES[-1]
_TOKEN_START = re.compile(r"\w+|[^\w\s]")


@dataclass(slots=True)
class _Entry:
    """One question with its options; samples that show the model the same text share an entry."""

    known: KnownSample
    input: str
    choices: tuple[str, ...]
    copies: int = 1
    contested: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A recognised prompt."""

    known: KnownSample
    letters: tuple[str, ...]
    """The letter the prompt shows for each of the sample's choices."""
    question_end: int
    """Offset behind the question in the prompt."""
    copies: int
    """How many samples of the data show the model this very question with these options."""
    contested: bool
    """Whether those copies have different targets."""


def _anchor_size(length: int) -> int:
    return next((size for size in _SIZES if size <= length), length)


class Knowledge:
    """An index of samples by their text.

    A question is found by the end of its last line (templates put text before it, a line break behind it), or,
    when that fails, by its first characters anywhere. The last known question in a prompt is the one asked: solved
    examples come before it.
    """

    def __init__(self, samples: Iterable[KnownSample] = ()) -> None:
        self._entries: dict[tuple[str, tuple[str, ...]], _Entry] = {}
        self._entry_of: dict[str, _Entry] = {}
        self._samples: list[KnownSample] = []
        self._by_tail: dict[str, list[_Entry]] = {}
        self._by_head: dict[str, list[_Entry]] = {}
        for known in samples:
            self._add(known)

    def __len__(self) -> int:
        return len(self._samples)

    def samples(self, benchmark: str = "") -> Iterator[KnownSample]:
        """What was learnt, in order; of one benchmark if it is named."""
        return (known for known in self._samples if benchmark in ("", known.benchmark))

    def _add(self, known: KnownSample) -> None:
        text = known.sample.input.strip()
        if not text:
            return
        self._samples.append(known)
        choices = tuple(choice.strip() for choice in known.sample.choices)
        entry = self._entries.get((text, choices))
        if entry is not None:
            entry.copies += 1
            entry.contested = entry.contested or entry.known.sample.target != known.sample.target
            self._entry_of[known.key] = entry
            return
        entry = _Entry(known, text, choices)
        self._entries[(text, choices)] = entry
        self._entry_of[known.key] = entry
        last_line = text[text.rfind("\n") + 1 :].lstrip()
        self._by_tail.setdefault(last_line[-_anchor_size(len(last_line)) :], []).append(entry)
        if len(text) >= _MIN_SIZE:
            self._by_head.setdefault(text[:_MIN_SIZE], []).append(entry)

    def match(self, text: str) -> Match | None:
        """The sample a prompt asks about, or `None` when it is none of those learnt."""
        if not self._entries:
            return None
        return self._match_line_ends(text) or self._match_anywhere(text)

    def _match_line_ends(self, text: str) -> Match | None:
        line_end = len(text)
        while line_end >= 0:
            line_start = text.rfind("\n", 0, line_end) + 1
            line = text[line_start:line_end].rstrip()
            if line:
                end = line_start + len(line)
                found = self._best(text, end, self._candidates(line.lstrip()))
                if found is not None:
                    return found
            line_end = line_start - 1
        return None

    def _candidates(self, line: str) -> Iterator[_Entry]:
        for size in _SIZES:
            if len(line) >= size:
                yield from self._by_tail.get(line[-size:], ())
        # Questions of a few characters must be the whole line, or stand behind a label.
        for short in {line, line[line.rfind(": ") + 2 :] if ": " in line else line}:
            if len(short) < _MIN_SIZE:
                yield from self._by_tail.get(short, ())

    def _best(self, text: str, end: int, candidates: Iterable[_Entry]) -> Match | None:
        """The longest candidate that ends here with its own options behind it; unshuffled options come first."""
        best: Match | None = None
        best_rank = (0, False)
        for entry in candidates:
            start = end - len(entry.input)
            if not text.endswith(entry.input, 0, end) or is_labelled(text, start):
                continue
            letters = _letters(entry, text, end)
            if letters is None:
                continue
            rank = (len(entry.input), letters == tuple(ascii_uppercase[: len(letters)]))
            if rank > best_rank:
                best, best_rank = _match(entry, letters, end), rank
        return best

    def _match_anywhere(self, text: str) -> Match | None:
        ends: dict[int, list[_Entry]] = {}
        for token in _TOKEN_START.finditer(text):
            start = token.start()
            for entry in self._by_head.get(text[start : start + _MIN_SIZE], ()):
                if text.startswith(entry.input, start):
                    ends.setdefault(start + len(entry.input), []).append(entry)
        for end in sorted(ends, reverse=True):
            found = self._best(text, end, ends[end])
            if found is not None:
                return found
        return None

    def expected_right(
        self,
        skill: Skill,
        samples: Iterable[KnownSample] | None = None,
        request_seed: int | None = None,
        counts: Callable[[KnownSample], bool] = lambda _: True,
    ) -> int:
        """How many samples are answered right when each is asked once with this seed; exact also for twins.

        Args:
            skill: The simulated model's.
            samples: Those asked; `None`: all that were learnt.
            request_seed: The seed in the requests.
            counts: Leaves samples out (a subset, a limit).
        """
        asked = self._samples if samples is None else samples
        return sum(self.is_right(skill, known, request_seed) for known in asked if counts(known))

    def is_right(self, skill: Skill, known: KnownSample, request_seed: int | None = None) -> bool:
        """Whether this sample is answered right: decided for the first of its twins, as they cannot be told apart."""
        entry = self._entry_of.get(known.key)
        first = entry.known if entry is not None else known
        return first.sample.target == known.sample.target and is_right(
            skill, first.benchmark, first.sample.id, request_seed
        )


def _letters(entry: _Entry, text: str, end: int) -> tuple[str, ...] | None:
    return locate_letters(text[end:], entry.choices) if entry.choices else ()


def _match(entry: _Entry, letters: tuple[str, ...], end: int) -> Match:
    return Match(entry.known, letters, end, entry.copies, entry.contested)
