"""Random numbers by position: what prompt n is like depends on the seed and n alone, at every seat and in any order."""

import hashlib
import struct

_EIGHT = struct.Struct("<8Q")
_NUMBER = struct.Struct("<q")
_UNIT = 2.0**-53

INPUT, OUTPUT, PREFIX, TURNS, OTHER = range(5)
"""Which of the uniform numbers of a prompt decides what; two decisions never share one."""


class Draws:
    """An endless table of random numbers with one line per prompt."""

    __slots__ = ("_key",)

    def __init__(self, seed: int, stream: str) -> None:
        """`stream` tells apart what is drawn from the same seed for different purposes."""
        self._key = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=32).digest()

    def uniforms(self, number: int) -> tuple[float, ...]:
        """Eight independent uniform numbers in [0, 1)."""
        digest = hashlib.blake2b(_NUMBER.pack(number), key=self._key).digest()
        return tuple([(value >> 11) * _UNIT for value in _EIGHT.unpack(digest)])

    def words(self, number: int, count: int, salt: int = 0) -> memoryview:
        """`count` independent numbers of 16 bits."""
        start = self._key + _NUMBER.pack(number) + _NUMBER.pack(salt)
        return memoryview(hashlib.shake_128(start).digest(2 * count)).cast("H")
