"""Prompts of exactly the asked length under a model's own tokenizer, whatever stands around them counted.

Counting each text would cost more than sending it. So words are chosen that are one token each, and it is proved once
that they stay so in any order: either the tokenizer cuts texts at their borders before it looks for tokens, or its
vocabulary has no token that crosses one. Then the length of a prompt is a sum, and samples are counted to be sure.
Where there is no such proof, or a sample contradicts it, every text is counted and changed until its length is right.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from evalmesh.domain.errors import EvalmeshError, InvalidInput
from evalmesh.load_generator.prompts.draws import Draws
from evalmesh.load_generator.prompts.tokenizer import Tokenizer
from evalmesh.load_generator.prompts.words import FIRST, WORDS
from evalmesh.load_generator.prompts.writer import Words, needs_tokenizer, too_short

Form = Literal["chat", "text", "rendered"]
"""What is around a text: the chat template; only the tokenizer's own marks; both, where we render the template."""

_LEAST_WORDS = 64
"""With fewer, prompts would be too much alike."""
_STARTS_TRIED = 192
_ALWAYS_COUNTED = 8
_COUNTED_EVERY = 1024
_TRIES = 8
_STEPS = 12
_FILLERS = (" a", "a", "s", ".", ",", " 1", "1", "0", "x", "q", "z", " q", " z", "!", "-", "\n")
"""Short texts to make up for a token or two."""
_SHORTEST = "a"
_CROSSING = re.compile(r"[^\s▁Ġ][\s▁Ġ]+\S|[^\s▁Ġ][▁Ġ]")
_WORD_TOKEN = re.compile(r"[▁Ġ ](\w{2,12})")


class TokenWriter:
    """A `Writer` that counts with the model's tokenizer."""

    counts = True

    def __init__(self, tokenizer: Tokenizer, form: Form, offset: int = 0) -> None:
        """`offset`: tokens that the server is known to add where the folder has no chat template."""
        self._tokenizer = tokenizer
        self._form: Form = form
        self._offset = offset if form == "chat" and tokenizer.template is None else 0
        words = _single_words(tokenizer)
        starts, self._around = self._starts(words or WORDS)
        self._words = Words(starts, words or WORDS)
        self._proved = bool(words) and _adds_up(tokenizer, words)
        self._per_word = 1.0 if self._proved else self._measure_word()
        self._calls = 0
        self._ids = _ids_of(tokenizer, words)

    @property
    def note(self) -> str:
        if self._form == "chat" and self._tokenizer.template is None:
            extra = (
                f" It has no chat template; by a probe the server's adds {self._offset} tokens, which are counted."
                if self._offset
                else " It has no chat template, so what the server's adds is not counted."
            )
        else:
            extra = ""
        return "Prompts were made to exact lengths under the given tokenizer." + extra

    @property
    def proved(self) -> bool:
        """Whether lengths are sums, and only samples are counted."""
        return self._proved

    @property
    def least(self) -> int:
        return self._around + 1 if self._proved else min(self._around + 1, self.count(_SHORTEST))

    @property
    def around_later(self) -> int:
        word = FIRST[0]
        chat = [{"role": role, "content": word} for role in ("user", "assistant", "user")]
        try:
            # What comes to the first turn's prompt beside its answer and the second message.
            count = self._tokenizer.count_messages
            return max(0, count(chat) - count(chat[:1]) - 2 * self._tokenizer.count(word))
        except EvalmeshError:  # a template that takes no history: nothing is known of later turns
            return 0

    @property
    def around_pair(self) -> int:
        return int(self._tokenizer.core.num_special_tokens_to_add(True))  # noqa: FBT003 - takes no name

    def prompt(self, draws: Draws, number: int, tokens: int, prefix: str = "") -> str:
        lead = f"{prefix} " if prefix else ""
        if not self._proved:
            return self._fit(draws, number, tokens, lead)
        words = tokens - self._around - (prefix.count(" ") + 1 if prefix else 0)
        if words < 1:
            raise too_short(tokens, tokens + 1 - words)
        text = lead + self._words.pick(draws.words(number, words))
        return text if self._holds(text, tokens) else self._fit(draws, number, tokens, lead)

    def part(self, draws: Draws, number: int, tokens: int) -> str:
        if self._proved:
            return self._words.pick(draws.words(number, max(1, tokens)))
        return self._fit_to(self._tokenizer.count, draws, number, max(1, tokens), "")

    def cut(self, text: str, tokens: int) -> str:
        words = text.split(" ")
        if self._proved:
            return " ".join(words[: max(1, tokens - self._around)])
        low, high = 1, len(words)
        while low < high:  # the most words that are not too many
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.count(" ".join(words[:middle])) <= tokens else (low, middle - 1)
        for shorter in range(min(low, _TRIES)):
            text = " ".join(words[: low - shorter])
            fitting = self._filled(self.count, text, self.count(text), tokens)
            if fitting is not None:
                return fitting
        return ""

    def ids(self, draws: Draws, number: int, tokens: int) -> tuple[int, ...]:
        ids = self._ids
        return tuple([ids[value % len(ids)] for value in draws.words(number, max(1, tokens))])

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.ids(text, special=True))

    def count(self, text: str) -> int:
        if self._form == "text":
            return self._tokenizer.count(text, special=True)
        if self._form == "rendered":
            return self._tokenizer.count(self.render(text), special=True)
        return self.count_messages(({"role": "user", "content": text},))

    def count_messages(self, messages: Sequence[Mapping[str, object]]) -> int:
        return self._tokenizer.count_messages(messages) + self._offset

    def render(self, text: str) -> str:
        if self._tokenizer.template is None:
            raise needs_tokenizer("prompts.apply_chat_template", "the given folder has no chat template to render")
        return self._tokenizer.template.render(({"role": "user", "content": text},))

    def _starts(self, words: Sequence[str]) -> tuple[list[str], int]:
        """Words that all cost the same at the start of a prompt, and the tokens around a text that starts so."""
        alone = dict(zip(words, self._tokenizer.counts(words), strict=True))
        tried = [word for word in (*FIRST, *words) if alone.get(word) == 1][:_STARTS_TRIED] or list(words)[:1]
        costs = {word: self.count(word) for word in dict.fromkeys(tried)}
        usual, _ = Counter(costs.values()).most_common(1)[0]
        return [word for word, cost in costs.items() if cost == usual], usual - 1

    def _measure_word(self) -> float:
        count = 64
        text = self._words.pick(Draws(0, "measure").words(0, count))
        return max(0.1, (self._tokenizer.count(text) - 1) / (count - 1))

    def _holds(self, text: str, tokens: int) -> bool:
        """Counts a sample; once one is wrong, everything is counted from then on."""
        self._calls += 1
        if self._calls > _ALWAYS_COUNTED and self._calls % _COUNTED_EVERY:
            return True
        self._proved = self.count(text) == tokens
        return self._proved

    def _fit(self, draws: Draws, number: int, tokens: int, lead: str) -> str:
        least = self.count(lead + _SHORTEST)
        if tokens < least:
            raise too_short(tokens, least)
        return self._fit_to(self.count, draws, number, tokens, lead)

    def _fit_to(self, count: Callable[[str], int], draws: Draws, number: int, tokens: int, lead: str) -> str:
        """Changes words until the text counts right; other words where these cannot be made to."""
        for salt in range(_TRIES):
            text = self._approach(count, draws, number, tokens, lead, salt)
            if text is not None:
                return text
        text = lead + _SHORTEST  # what is shorter than our words
        if (have := count(text)) <= tokens and (text := self._filled(count, text, have, tokens)) is not None:
            return text
        raise InvalidInput(
            f"No prompt of exactly {tokens} tokens could be made with the given tokenizer. Ask for another length, or "
            "give the tokenizer that the server uses.",
            {"field": "prompts.input_tokens"},
        )

    def _approach(
        self, count: Callable[[str], int], draws: Draws, number: int, tokens: int, lead: str, salt: int
    ) -> str | None:
        words = max(1, round((tokens - count(lead + FIRST[0])) / self._per_word) + 1)
        below: tuple[int, str] | None = None
        seen: set[int] = set()
        for _ in range(_STEPS):
            seen.add(words)
            text = lead + self._words.pick(draws.words(number, words, salt))
            found = count(text)
            if found == tokens:
                return text
            if found < tokens and (below is None or found > below[0]):
                below = found, text
            step = round((tokens - found) / self._per_word) or (1 if found < tokens else -1)
            words = max(1, words + step)
            if words in seen:
                words = max(1, words - (1 if step > 0 else 2))
        return None if below is None else self._filled(count, below[1], below[0], tokens)

    @staticmethod
    def _filled(count: Callable[[str], int], text: str, have: int, tokens: int) -> str | None:
        """Appends short texts until the count is right."""
        while have < tokens:
            for filler in _FILLERS:
                found = count(text + filler)
                if have < found <= tokens:
                    text, have = text + filler, found
                    break
            else:
                return None
        return text if have == tokens else None


def _single_words(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Words that are one token behind another word: ours, else the vocabulary's own; empty where there are too few."""
    for words in (WORDS, _vocabulary_words(tokenizer)):
        anchor = f"{FIRST[0]} {FIRST[1]}"
        before = tokenizer.count(anchor)
        counts = tokenizer.counts([f"{anchor} {word}" for word in words])
        found = tuple(word for word, count in zip(words, counts, strict=True) if count == before + 1)
        if len(found) >= _LEAST_WORDS:
            return found
    return ()


def _vocabulary_words(tokenizer: Tokenizer) -> tuple[str, ...]:
    found = [match[1] for token in tokenizer.core.get_vocab() if (match := _WORD_TOKEN.fullmatch(token))]
    return tuple(sorted(word for word in found if word.isalpha()))[:4096]


def _adds_up(tokenizer: Tokenizer, words: Sequence[str]) -> bool:
    """Whether tokens never cross the borders of these words, in whatever order they stand."""
    core = tokenizer.core
    text = " ".join(words)
    if core.normalizer is not None:
        text = core.normalizer.normalize_str(text)
    if core.pre_tokenizer is not None and len(core.pre_tokenizer.pre_tokenize_str(text)) == len(words):
        return True
    return not any(_CROSSING.search(token) for token in core.get_vocab())


def _ids_of(tokenizer: Tokenizer, words: Sequence[str]) -> list[int]:
    """Ids to make prompts of: those of the words, else all that stand for text."""
    anchor = tokenizer.ids(FIRST[0])
    own = [tokenizer.ids(f"{FIRST[0]} {word}")[len(anchor) :] for word in words]
    ids = [found[0] for found in own if len(found) == 1]
    special = set(tokenizer.core.get_added_tokens_decoder())
    return ids or [number for number in range(tokenizer.core.get_vocab_size()) if number not in special]
