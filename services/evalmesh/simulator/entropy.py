"""Chance that can be repeated: every draw is a pure function of the words it is drawn for."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_SEPARATOR = "\x1f"


def unit(*parts: object) -> float:
    """A number in [0, 1), the same for the same parts on every machine and Python."""
    digest = hashlib.blake2b(_SEPARATOR.join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


class Draws:
    """A sequence of draws fixed by its parts."""

    __slots__ = ("_block", "_bytes", "_offset", "_seed")

    def __init__(self, *parts: object) -> None:
        self._seed = _SEPARATOR.join(map(str, parts)).encode()
        self._block = 0
        self._offset = 0
        self._bytes = hashlib.blake2b(self._seed).digest()

    def below(self, count: int) -> int:
        """An integer in [0, count)."""
        return self.bits() % count

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.bits() < probability * (1 << 32)

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.bits() % len(items)]

    def bits(self) -> int:
        """32 of them."""
        if self._offset == len(self._bytes):
            self._block += 1
            self._offset = 0
            self._bytes = hashlib.blake2b(self._seed + self._block.to_bytes(4, "big")).digest()
        start = self._offset
        self._offset = start + 4
        return int.from_bytes(self._bytes[start : start + 4], "big")
