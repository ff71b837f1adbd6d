"""The simulator's own tokens: a word or a mark, with the white space before it.

Tokens tile the text: joined they give it back, so streams, usage and offsets can be checked against each other.
"""

import re
import zlib
from functools import lru_cache

VOCABULARY_SIZE = 131_072
_SHORT_CHARS = 1000
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


def tokenize(text: str) -> list[str]:
    """The tokens of a text, in order."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens a text has."""
    # Replies come again and again under load; prompts, which are longer, mostly do not.
    return _count(text) if len(text) <= _SHORT_CHARS else len(_TOKEN.findall(text))


@lru_cache(maxsize=4096)
def _count(text: str) -> int:
    return len(_TOKEN.findall(text))


def token_id(token: str) -> int:
    """A number for a token, the same on every machine; two tokens may share one."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) % VOCABULARY_SIZE


class TokenCounter:
    """Counts tokens and remembers texts that come again (system prompts, few-shot turns)."""

    def __init__(self, max_texts: int = 4096, max_chars: int = 16_384) -> None:
        self._known: dict[str, int] = {}
        self._max_texts = max_texts
        self._max_chars = max_chars

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        known = self._known.get(text)
        if known is not None:
            return known
        count = count_tokens(text)
        if len(text) <= self._max_chars:
            if len(self._known) >= self._max_texts:
                self._known.clear()
            self._known[text] = count
        return count
