"""Chooses the next token of each row from its logits.

Whatever is drawn for a row depends on its own seed and its own logits alone: a draw is one number, made of the seed and
of how many tokens there are, and laid into the row's distribution. So it does not matter who shares the batch, nor
whether a step was done twice because the memory was full.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from evalmesh.adapters.engines.transformers.wishes import Wish

_HEAD = 1024
"""Likeliest tokens in which `top_p` usually ends: sorting them all takes several times as long."""


@dataclass(slots=True)
class Chooser:
    """What choosing remembers of one row."""

    wish: Wish
    prompt: Sequence[int]
    said: list[int] = field(default_factory=list)
    logprobs: list[tuple[float, list[tuple[int, float]]]] = field(default_factory=list)
    """Per token: its own, and the likeliest ones; only where they were asked for."""
    _counted: int = 0
    """So many of `said` are in the next two."""
    _counts: torch.Tensor | None = None
    """How often each token was said."""
    _seen: torch.Tensor | None = None
    """Which tokens were said or asked."""

    def draw(self) -> float:
        """The number in [0, 1) for the next token."""
        state = struct.pack("<QQ", self.wish.seed % 2**64, len(self.said))
        return int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "little") / 2**64

    def penalise(self, logits: torch.Tensor) -> None:
        """In place. As CTRL has it (arXiv:1909.05858) for repetition, and as OpenAI's API for the other two."""
        wish = self.wish
        if self._counts is None or self._seen is None:
            self._counts, self._seen = torch.zeros_like(logits), torch.zeros_like(logits, dtype=torch.bool)
            self._seen[torch.tensor(self.prompt, device=logits.device)] = True
        for token in self.said[self._counted :]:
            self._seen[token] = True
            self._counts[token] += 1
        self._counted = len(self.said)
        if wish.repetition_penalty != 1:
            lowered = torch.where(logits > 0, logits / wish.repetition_penalty, logits * wish.repetition_penalty)
            logits.copy_(torch.where(self._seen, lowered, logits))
        if wish.frequency_penalty or wish.presence_penalty:
            logits -= wish.frequency_penalty * self._counts + wish.presence_penalty * (self._counts > 0)


def choose(logits: torch.Tensor, rows: Sequence[Chooser]) -> list[int]:
    """The next token of each row; `logits` [rows, vocabulary] may be changed. Says nothing to the rows but logprobs."""
    logits = logits.float()
    scored = [place for place, row in enumerate(rows) if row.wish.top_logprobs is not None]
    scores = logits[scored].log_softmax(-1) if scored else None
    for place, row in enumerate(rows):
        if row.wish.penalised:
            row.penalise(logits[place])
        if len(row.said) < row.wish.min_tokens and row.wish.ends:
            logits[place, list(row.wish.ends)] = float("-inf")
    tokens = logits.argmax(-1)
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        if row.wish.temperature > 0:
            groups.setdefault(_kind(row.wish), []).append(place)
    for kind, places in groups.items():
        # All rows alike is what a run has: then nothing is copied.
        picked = logits if len(places) == len(rows) else logits[places]
        tokens[places] = _sample(picked, [rows[place] for place in places], kind)
    found: list[int] = tokens.tolist()
    if scores is not None:
        _note_scores(scores, [rows[place] for place in scored], [found[place] for place in scored])
    return found


def _note_scores(scores: torch.Tensor, rows: Sequence[Chooser], tokens: Sequence[int]) -> None:
    most = max(row.wish.top_logprobs or 0 for row in rows)
    own = scores[torch.arange(len(rows)), torch.tensor(tokens, device=scores.device)].tolist()
    best = scores.topk(max(1, min(most, scores.shape[-1])), -1)
    values, ids = best.values.tolist(), best.indices.tolist()
    for place, row in enumerate(rows):
        number = row.wish.top_logprobs or 0
        row.logprobs.append((own[place], list(zip(ids[place], values[place], strict=True))[:number]))


_WHOLE, _CUT = -1, 0


def _kind(wish: Wish) -> int:
    """Rows of one kind are drawn together: the whole vocabulary, cut by probability, or so many of the likeliest."""
    if wish.top_k:
        return wish.top_k
    return _CUT if wish.top_p < 1 or wish.min_p > 0 else _WHOLE


def _sample(logits: torch.Tensor, rows: Sequence[Chooser], kind: int) -> torch.Tensor:
    """Temperature, then `top_k`, then `top_p` and `min_p`, as `generate` and vLLM have it; then the draw."""
    device = logits.device
    heat = torch.tensor([row.wish.temperature for row in rows], device=device)
    # Apple's GPUs have no float64.
    exact = torch.float32 if device.type == "mps" else torch.float64
    draws = torch.tensor([row.draw() for row in rows], dtype=exact, device=device)
    logits = logits / heat[:, None]
    if kind == _WHOLE:
        return _lay(logits.softmax(-1), draws)
    size = logits.shape[-1]
    values, ids = logits.topk(min(kind or _HEAD, size), -1)
    if kind != _CUT:
        shares = values.softmax(-1)
        return ids.gather(-1, _lay(_cut(shares, rows), draws)[:, None])[:, 0]
    total = logits.logsumexp(-1, keepdim=True)
    shares = (values - total).exp()
    found = ids.gather(-1, _lay(_cut(shares, rows), draws)[:, None])[:, 0]
    least = shares[:, -1].tolist()
    for place, (mass, row) in enumerate(zip(shares.sum(-1).tolist(), rows, strict=True)):
        if (
            values.shape[-1] < size
            and mass < row.wish.top_p
            and least[place] >= row.wish.min_p * float(shares[place, 0])
        ):
            # A flat distribution: what is cut off begins further down.
            every, order = logits[place].sort(descending=True, stable=True)
            share = (every - total[place]).exp()[None]
            found[place] = order[_lay(_cut(share, [row]), draws[place : place + 1])[0]]
    return found


def _cut(shares: torch.Tensor, rows: Sequence[Chooser]) -> torch.Tensor:
    """Sorted probabilities, with zeros for what `top_p` and `min_p` leave out; the first is always kept."""
    top_p = torch.tensor([row.wish.top_p for row in rows], device=shares.device)[:, None]
    min_p = torch.tensor([row.wish.min_p for row in rows], device=shares.device)[:, None]
    kept = (shares.cumsum(-1) - shares < top_p) & (shares >= min_p * shares[:, :1])
    kept[:, 0] = True
    return shares * kept


def _lay(shares: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Where each draw falls among the probabilities, which need not sum to one."""
    sums = shares.to(draws.dtype).cumsum(-1)
    places = torch.searchsorted(sums, (draws * sums[:, -1])[:, None], right=True)[:, 0]
    return places.clamp_(max=shares.shape[-1] - 1)
