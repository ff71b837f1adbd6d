"""How likely texts are: sums of the log probabilities of their tokens, as lm-eval counts them.

Contexts that several continuations follow are computed once: the first token of each continuation is read off the
logits after the context, the others come from a second pass that starts with the context's keys and values. That is
the same arithmetic, so sums differ in the last bits only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from evalmesh.adapters.engines.transformers.budget import Budget, out_of_memory
from evalmesh.adapters.engines.transformers.forward import Forward
from evalmesh.adapters.engines.transformers.writing import Task
from evalmesh.domain.completion import ContinuationScore, Usage


@dataclass(slots=True)
class Piece:
    """Tokens that are judged after others."""

    context: Sequence[int]
    tokens: Sequence[int]
    logprob: float = 0.0
    greedy: bool = True


@dataclass(slots=True)
class Text:
    """One continuation: a single piece, or the windows of a long text."""

    pieces: Sequence[Piece]
    n_bytes: int

    def score(self) -> ContinuationScore:
        """Once all pieces are done."""
        return ContinuationScore(
            sum(piece.logprob for piece in self.pieces),
            sum(len(piece.tokens) for piece in self.pieces),
            self.n_bytes,
            all(piece.greedy for piece in self.pieces),
        )


@dataclass(slots=True, eq=False, kw_only=True)
class Judging(Task):
    """A loglikelihood request."""

    texts: Sequence[Text]
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._left = sum(1 for _ in self.pieces())

    def pieces(self) -> Iterable[Piece]:
        """Those with something to judge."""
        return (piece for text in self.texts for piece in text.pieces if piece.tokens)

    def done(self, pieces: int) -> None:
        """So many more are judged; the last ones hand the answer over."""
        self._left -= pieces
        if self._left == 0 and pieces:
            self.finish()

    def finish(self) -> None:
        """Hands it over."""
        read = sum(len(piece.context) + len(piece.tokens) for piece in self.pieces())
        self.answer(
            continuations=tuple(text.score() for text in self.texts), finish_reason="stop", usage=Usage(read, 0)
        )


@dataclass(slots=True, eq=False)
class _Group:
    """Pieces of one request after the same context."""

    task: Judging
    context: Sequence[int]
    pieces: list[Piece]

    @property
    def size(self) -> int:
        """Tokens of the longest row that is fed for it."""
        longest = max(len(piece.tokens) for piece in self.pieces) - 1
        return len(self.context) + longest

    @property
    def shared(self) -> bool:
        return len(self.pieces) > 1

    @property
    def kept(self) -> int:
        """Logits that are looked at in its first pass."""
        return 1 if self.shared else len(self.pieces[0].tokens)


class Judge:
    """What waits to be judged. Used by one thread."""

    def __init__(self, forward: Forward, budget: Budget) -> None:
        self._forward = forward
        self._budget = budget
        self._waiting: list[_Group] = []

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting)

    def add(self, tasks: Iterable[Judging]) -> None:
        """They are judged longest first."""
        for task in tasks:
            found: dict[tuple[int, ...], list[Piece]] = {}
            for piece in task.pieces():
                found.setdefault(tuple(piece.context), []).append(piece)
            if not found:
                task.finish()
            for context, pieces in found.items():
                alone = [pieces] if self._forward.batches else [[piece] for piece in pieces]
                self._waiting += (_Group(task, context, some) for some in alone)
        self._waiting.sort(key=lambda group: (group.shared, group.size))

    def step(self) -> None:
        """Judges one batch."""
        batch = self._batch()
        if not batch:
            return
        failed: Exception | None = None
        try:
            if batch[0].shared:
                self._judge_shared(batch)
            else:
                self._judge([(group.context, group.pieces[0]) for group in batch])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                self._waiting += batch
                raise
            failed = error.with_traceback(None)  # its frames hold what has to be freed
        if failed is None:
            for group in batch:
                group.task.done(len(group.pieces))
            return
        self._budget.free()
        self._waiting += batch
        if not self._budget.halve(max(len(batch), *(len(group.pieces) for group in batch))):
            self._give_up(batch[0], failed)

    def fail_all(self, message: str) -> None:
        """Something that is no request's fault went wrong."""
        for task in {id(group.task): group.task for group in self._waiting}.values():
            task.fail(message, "internal")
        self._waiting = []

    def _give_up(self, group: _Group, error: Exception) -> None:
        self._waiting = [one for one in self._waiting if one.task is not group.task]
        group.task.fail(f"The memory does not hold this request by itself ({group.size} tokens): {error}.", "server")

    def _batch(self) -> list[_Group]:
        """The longest ones, all of one kind, that fit into a pass."""
        self._waiting = [group for group in self._waiting if not group.task.forgotten]
        batch: list[_Group] = []
        rows = kept = size = 0
        while self._waiting:
            group = self._waiting[-1]
            rows += len(group.pieces) if group.shared else 1
            kept, size = max(kept, group.kept), max(size, group.size)
            most = rows > self._budget.rows or len(batch) * size + size > self._budget.pass_tokens
            most = most or (len(batch) + 1) * kept * self._forward.vocabulary > self._budget.logits
            if batch and (most or group.shared != batch[0].shared or not self._forward.batches):
                break
            batch.append(self._waiting.pop())
        return batch

    def _judge(self, rows: Sequence[tuple[Sequence[int], Piece]]) -> None:
        """One pass over each context and what follows it."""
        fed = [[*context, *piece.tokens[:-1]] for context, piece in rows]
        most = max(1, min(self._budget.pass_tokens, self._budget.logits // self._forward.vocabulary))
        if len(rows) == 1 and len(fed[0]) > most and self._forward.batches:
            self._judge_long(fed[0], rows[0][1], most)
            return
        keep = max(len(piece.tokens) for _, piece in rows)
        logits = self._forward(self._forward.left_padded(fed), [len(row) for row in fed], None, keep)
        for (_, piece), row in zip(rows, logits, strict=True):
            _read(piece, row[keep - len(piece.tokens) :], piece.tokens)

    def _judge_long(self, row: list[int], piece: Piece, most: int) -> None:
        """A row whose logits are too many to have at once."""
        cache = self._forward.cache(1, len(row))
        cache.begin(1)
        # The logits of one token are about the next.
        first = len(row) - len(piece.tokens)
        total, greedy = 0.0, True
        for start, logits in self._forward.pieces(row, cache, most, every=True):
            begin, end = max(first, start), start + len(logits)
            if begin < end:
                _read(piece, logits[begin - start :], piece.tokens[begin - first : end - first])
                total, greedy = total + piece.logprob, greedy and piece.greedy
        piece.logprob, piece.greedy = total, greedy

    def _judge_shared(self, groups: Sequence[_Group]) -> None:
        """One pass over the contexts, then one over what follows them."""
        contexts = [list(group.context) for group in groups]
        cache = self._forward.cache(len(groups), max(map(len, contexts)))
        cache.begin(len(groups))
        lengths = [len(context) for context in contexts]
        logits = self._forward.feed(contexts, cache, self._budget.pass_tokens).float().log_softmax(-1)
        best = logits.argmax(-1).tolist()
        for place, group in enumerate(groups):
            firsts = [piece.tokens[0] for piece in group.pieces]
            for piece, value in zip(group.pieces, logits[place, firsts].tolist(), strict=True):
                piece.logprob, piece.greedy = value, piece.tokens[0] == best[place]
        longer = [
            (place, piece) for place, group in enumerate(groups) for piece in group.pieces if len(piece.tokens) > 1
        ]
        longer.sort(key=lambda row: len(row[1].tokens))
        while longer:
            some = self._fitting(longer, cache.width)
            del longer[-len(some) :]
            self._judge_rest(some, lengths, cache)

    def _fitting(self, rows: Sequence[tuple[int, Piece]], width: int) -> list[tuple[int, Piece]]:
        """The last of the rows, as many as one pass takes."""
        new = len(rows[-1][1].tokens) - 1
        most = min(
            self._budget.pass_tokens // new,
            self._budget.cache_tokens // (width + new),
            self._budget.logits // (new * self._forward.vocabulary),
        )
        return list(rows[-max(1, most) :])

    def _judge_rest(self, rows: Sequence[tuple[int, Piece]], lengths: Sequence[int], cache: object) -> None:
        """All tokens of each row but its first. Padding stands right of a row, where nothing that counts can see it."""
        fed = [list(piece.tokens[:-1]) for _, piece in rows]
        new = max(map(len, fed))
        ids = torch.tensor([row + [0] * (new - len(row)) for row in fed], device=self._forward.device)
        copy = cache.spread([place for place, _ in rows], new)  # type: ignore[attr-defined]
        logits = self._forward(ids, [lengths[place] + new for place, _ in rows], copy, new)
        for (_, piece), row in zip(rows, logits, strict=True):
            first, greedy = piece.logprob, piece.greedy
            _read(piece, row[: len(piece.tokens) - 1], piece.tokens[1:])
            piece.logprob += first
            piece.greedy = piece.greedy and greedy


def _read(piece: Piece, logits: torch.Tensor, tokens: Sequence[int]) -> None:
    """Log probabilities in float32, whatever the model computes in; the sum of them in float64."""
    scores = logits.float()
    wanted = torch.tensor(tokens, device=scores.device)
    values = scores.gather(-1, wanted[:, None])[:, 0] - scores.logsumexp(-1)
    piece.logprob = sum(values.tolist())
    piece.greedy = bool((scores.argmax(-1) == wanted).all())
