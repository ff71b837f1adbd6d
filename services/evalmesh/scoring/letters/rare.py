"""Patterns that most texts hold nothing of, made quick for these texts."""

import re
from collections.abc import Iterator


class Rare:
    """A pattern whose every match in an ASCII text holds one of some words, whatever their case.

    A search without regard to case tries every alternative at every character. The words are literals, whose first
    letters the engine jumps to; where none stands, the pattern is not tried.
    """

    __slots__ = ("_words", "pattern")

    def __init__(self, words: str, pattern: re.Pattern[str]) -> None:
        """`words`: alternatives in lower case, each beginning with a literal character."""
        self._words = re.compile(words)
        self.pattern = pattern

    def _is_possible(self, text: str) -> bool:
        return not text.isascii() or self._words.search(text.lower()) is not None

    def finditer(self, text: str, start: int = 0) -> Iterator[re.Match[str]]:
        """As of the pattern."""
        return self.pattern.finditer(text, start) if self._is_possible(text) else iter(())

    def search(self, text: str) -> re.Match[str] | None:
        """As of the pattern."""
        return self.pattern.search(text) if self._is_possible(text) else None

    def match(self, text: str, start: int = 0) -> re.Match[str] | None:
        """As of the pattern; one place is quickly tried."""
        return self.pattern.match(text, start)

    def sub(self, replacement: str, text: str) -> str:
        """As of the pattern."""
        return self.pattern.sub(replacement, text) if self._is_possible(text) else text
