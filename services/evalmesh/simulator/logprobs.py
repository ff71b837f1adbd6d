"""Pseudo log probabilities that make the option the model believes in the most likely one, by every normalisation."""

from dataclasses import dataclass
from string import ascii_uppercase

from evalmesh.simulator.entropy import Draws
from evalmesh.simulator.knowledge import Match
from evalmesh.simulator.tokens import token_id, tokenize

_BELIEVED_TOTAL = -0.1
_DOUBTED_PER_BYTE = -0.5
_BELIEVED_FLOOR = -1e-6
_LIKELIEST = -0.69
"""Above this (half of all probability) a token is the most likely one."""
_ALTERNATIVE = "<other>"


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of prompt and answer."""

    text: str
    offset: int
    logprob: float | None
    """In nats; `None` for the first token of an echoed prompt, which nothing precedes."""
    is_greedy: bool

    def moved(self, offset: int) -> "ScoredToken":
        """The same token further on in a text; something precedes it there."""
        logprob = _BELIEVED_FLOOR if self.logprob is None else self.logprob
        return ScoredToken(self.text, self.offset + offset, logprob, self.is_greedy)


def continuation_of(match: Match, prompt: str) -> tuple[int, int] | None:
    """Which choice a prompt ends with, as (index, start in the prompt): the longest text or letter that fits."""
    choices = match.known.sample.choices
    found: list[tuple[int, int]] = []
    for index, choice in enumerate(choices):
        for text in (choice.strip(), ascii_uppercase[index]):
            start = len(prompt) - len(text)
            if text and start >= match.question_end and prompt.endswith(text) and not prompt[start - 1].isalnum():
                found.append((start, index))
    if not found:
        return None
    start, index = min(found)
    return index, start


def score_tokens(text: str, believed_from: int | None, doubted_from: int | None, *words: object) -> list[ScoredToken]:
    """Tokens with log probabilities.

    A believed continuation has -0.1 nats in total, a doubted one -0.5 nats per UTF-8 byte: the order is the same by
    sum, by mean per token and by mean per byte.

    Args:
        text: Prompt and generated text.
        believed_from: Where a continuation starts that the model holds right, if one does.
        doubted_from: Where one starts that it holds wrong.
        words: What the pseudo probabilities of all other tokens are drawn from.
    """
    draws = Draws("logprobs", *words)
    size = len(text[believed_from:].encode()) if believed_from is not None else 0
    scored: list[ScoredToken] = []
    offset = 0
    for token in tokenize(text):
        end = offset + len(token)
        n_bytes = len(token.encode())
        if believed_from is not None and end > believed_from:
            inside = len(token[max(0, believed_from - offset) :].encode())
            logprob = min(_BELIEVED_FLOOR, _BELIEVED_TOTAL * inside / max(size, 1))
            greedy = True
        elif doubted_from is not None and end > doubted_from:
            logprob, greedy = _DOUBTED_PER_BYTE * n_bytes, False
        else:
            logprob = -6.0 * draws.bits() / (1 << 32) - 0.01
            greedy = logprob > _LIKELIEST
        scored.append(ScoredToken(token, offset, None if offset == 0 else logprob, greedy))
        offset = end
    return scored


def completion_logprobs(tokens: list[ScoredToken], top: int) -> dict[str, object]:
    """The `logprobs` object of the completions API."""
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "text_offset": [token.offset for token in tokens],
        "top_logprobs": [top_of(token) if top > 0 else None for token in tokens],
    }


def prompt_logprobs(tokens: list[ScoredToken]) -> list[dict[str, object] | None]:
    """As vLLM tells them: for each token its own entry first, then a likelier one; none for the first token."""
    found: list[dict[str, object] | None] = []
    for token in tokens:
        tops = top_of(token)
        if tops is None:
            found.append(None)
            continue
        entries: dict[str, object] = {}
        ranked = sorted(tops.items(), key=lambda one: -one[1])
        for rank, (text, logprob) in sorted(enumerate(ranked, start=1), key=lambda one: one[1][0] != token.text):
            entries[str(token_id(text))] = {"logprob": logprob, "rank": rank, "decoded_token": text}
        found.append(entries)
    return found


def top_of(token: ScoredToken) -> dict[str, float] | None:
    """The most likely tokens: this one, and one more likely where this one is not what the model would say."""
    if token.logprob is None:
        return None
    if token.is_greedy:
        return {token.text: token.logprob}
    return {_ALTERNATIVE: max(token.logprob / 2, -0.05), token.text: token.logprob}
