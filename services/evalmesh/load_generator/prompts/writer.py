"""Texts of an asked length, from our own words.

Three ways to know a length, from the surest: the model's own tokenizer (every prompt is exact; `exact`); two probes
against the server, whose usage says how many tokens a word has (`calibration`); neither, then one word is taken for one
token. Which one it was is told with the results.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.prompts.draws import Draws
from evalmesh.load_generator.prompts.words import FIRST, WORDS

TABLE_SIZE = 65536
"""One entry for each number of 16 bits, so that picking words is one look-up without arithmetic."""


class Writer(Protocol):
    """Writes texts and knows their lengths in tokens. Texts of one number and purpose are always the same."""

    @property
    def note(self) -> str:
        """How lengths are known, in a sentence for people."""

    @property
    def counts(self) -> bool:
        """Whether lengths of texts from elsewhere can be known."""

    @property
    def least(self) -> int:
        """Fewest tokens of a whole prompt: what stands around the text, and one token of text."""

    @property
    def around_later(self) -> int:
        """Tokens that a later turn adds beside its message: the end of the answer before it, and what is around it."""

    @property
    def around_pair(self) -> int:
        """Tokens around a query and a document that are ranked together."""

    def prompt(self, draws: Draws, number: int, tokens: int, prefix: str = "") -> str:
        """A text that makes a whole prompt of `tokens`, with everything around it and `prefix` at its start."""

    def part(self, draws: Draws, number: int, tokens: int) -> str:
        """A text of `tokens` by itself."""

    def cut(self, text: str, tokens: int) -> str:
        """The start of a text of our words, so long that it makes a whole prompt of `tokens`; empty: there is none."""

    def ids(self, draws: Draws, number: int, tokens: int, /) -> tuple[int, ...]:
        """A prompt of token ids."""

    def encode(self, text: str, /) -> tuple[int, ...]:
        """Any text as token ids, with what the tokenizer puts around a text."""

    def count(self, text: str, /) -> int:
        """Tokens of a whole prompt with this text; 0: unknown."""

    def count_messages(self, messages: Sequence[Mapping[str, object]], /) -> int:
        """Tokens of a chat; 0: unknown."""

    def render(self, text: str) -> str:
        """The text with the chat template around it, for an API that takes plain text."""


def too_short(tokens: int, least: int) -> InvalidInput:
    """The error for a length that no prompt can have."""
    return InvalidInput(
        f"prompts.input_tokens asks for a prompt of {tokens} tokens; the shortest possible has {least}: the chat "
        f"template, the shared prefix and one token of text take that. Ask for at least {least}.",
        {"field": "prompts.input_tokens.low", "value": str(tokens), "minimum": str(least)},
    )


def needs_tokenizer(field: str, why: str) -> InvalidInput:
    """The error for a wish that cannot be met by counting words."""
    return InvalidInput(
        f"{field} needs the model's tokenizer: {why}. Give its folder (on the command line --tokenizer-path).",
        {"field": "prompts.tokenizer_digest"},
    )


def table(words: Sequence[str]) -> list[str]:
    """Repeats words until there is one for each number of 16 bits."""
    return list((tuple(words) * (TABLE_SIZE // len(words) + 1))[:TABLE_SIZE])


class Words:
    """Random words: one that may begin a text, then others with a space before each."""

    __slots__ = ("_first", "_other")

    def __init__(self, first: Sequence[str], words: Sequence[str]) -> None:
        self._first = table(first)
        self._other = table([" " + word for word in words])

    def pick(self, numbers: memoryview) -> str:
        """One word per number."""
        return self._first[numbers[0]] + "".join(map(self._other.__getitem__, numbers[1:]))


class WordWriter:
    """Without a tokenizer: `scale` tokens per word and `offset` around them, as measured; else a token is a word."""

    around_pair = 0
    counts = False

    def __init__(self, scale: float = 0.0, offset: int = 0) -> None:
        self._measured = scale > 0
        self._scale = scale if self._measured else 1.0
        self._offset = offset if self._measured else 0
        self._words = Words(FIRST, WORDS)

    @property
    def note(self) -> str:
        if not self._measured:
            return "No tokenizer was given: prompts were made of words, one taken for one token."
        sure = "exact for such words" if self._scale == 1 else "near, not exact"
        return (
            f"No tokenizer was given: by two probes the server counts {self._scale:.4g} token"
            f"{'' if self._scale == 1 else 's'} per word and {self._offset} around them; prompt lengths are {sure}."
        )

    @property
    def least(self) -> int:
        return self._offset + max(1, round(self._scale))

    @property
    def around_later(self) -> int:
        return self._offset

    def prompt(self, draws: Draws, number: int, tokens: int, prefix: str = "") -> str:
        taken = _words_of(prefix)
        words = self._words_for(tokens) - taken
        if words < 1:
            raise too_short(tokens, self.least + round(taken * self._scale))
        text = self._words.pick(draws.words(number, words))
        return f"{prefix} {text}" if prefix else text

    def part(self, draws: Draws, number: int, tokens: int) -> str:
        return self._words.pick(draws.words(number, max(1, round(tokens / self._scale))))

    def cut(self, text: str, tokens: int) -> str:
        return " ".join(text.split(" ")[: max(1, self._words_for(tokens))])

    def ids(self, _draws: Draws, _number: int, _tokens: int, /) -> tuple[int, ...]:
        raise needs_tokenizer("prompts.tokenize", "token ids are its own")

    def encode(self, _text: str, /) -> tuple[int, ...]:
        raise needs_tokenizer("prompts.tokenize", "token ids are its own")

    def count(self, _text: str, /) -> int:
        return 0

    def count_messages(self, _messages: Sequence[Mapping[str, object]], /) -> int:
        return 0

    def render(self, text: str) -> str:
        return text

    def _words_for(self, tokens: int) -> int:
        return round((tokens - self._offset) / self._scale)


def _words_of(text: str) -> int:
    return text.count(" ") + 1 if text else 0


def estimate(text: str) -> int:
    """A guess at the tokens of any text, to keep bounds without a tokenizer: four ASCII characters, or one other."""
    ascii_characters = len(text.encode("ascii", "ignore"))
    return (ascii_characters + 3) // 4 + len(text) - ascii_characters
