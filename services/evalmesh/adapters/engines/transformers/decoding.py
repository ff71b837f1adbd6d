"""Writes answers, many at once: rows join the batch when there is room and leave it when they are done."""

from collections.abc import Iterable, Sequence

import torch

from evalmesh.adapters.engines.texts import Texts
from evalmesh.adapters.engines.transformers.budget import Budget, out_of_memory
from evalmesh.adapters.engines.transformers.cache import SlotCache
from evalmesh.adapters.engines.transformers.forward import Forward
from evalmesh.adapters.engines.transformers.sampling import choose
from evalmesh.adapters.engines.transformers.writing import Writing

_GROWTH = 64
"""Columns that a row is expected to grow by, when it is asked whether there is room for it."""
_OVERFLOW = "The model's numbers are too large for its dtype; --model-args dtype=bfloat16 or float32 holds them."


class Decoder:
    """The batch under way, and what waits for room in it. Used by one thread."""

    def __init__(self, forward: Forward, texts: Texts, budget: Budget) -> None:
        self._forward = forward
        self._texts = texts
        self._budget = budget
        self._waiting: list[Writing] = []
        self._active: list[Writing] = []
        self._cache: SlotCache | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._active or self._waiting)

    @property
    def _width(self) -> int:
        return self._cache.width if isinstance(self._cache, SlotCache) else 0

    def add(self, writings: Iterable[Writing]) -> None:
        """They join as there is room, longest first: rows of a batch are of one length; what fits is known early."""
        self._waiting += writings
        self._waiting.sort(key=lambda one: one.length)

    def step(self) -> None:
        """One more token for every row, after those that there is room for have joined."""
        failed: Exception | None = None
        rows = 1
        try:
            self._forget()
            for group in self._joining():
                rows = len(group)
                self._begin(group)
            if self._active:
                rows = len(self._active)
                self._go_on()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failed = error.with_traceback(None)  # its frames hold what has to be freed
        if failed is not None:
            self._start_over(rows, failed)

    def fail_all(self, message: str) -> None:
        """Something that is no request's fault went wrong."""
        broken = [*self._active, *self._waiting]
        self._active, self._waiting, self._cache = [], [], None
        for one in broken:
            one.fail(message, "internal")

    def _forget(self) -> None:
        """Those that nobody waits for leave, and those that the batch has grown too wide for wait again."""
        self._waiting = [one for one in self._waiting if not one.forgotten]
        gone = [place for place, one in enumerate(self._active) if one.forgotten]
        rows, most = len(self._active) - len(gone), self._budget.cache_tokens
        width = self._width + 1
        if rows > 1 and rows * width > most:
            kept = max(1, most // width)
            stay = [place for place in range(len(self._active)) if place not in gone]
            # The ones that have said least lose least: they are fed again from their start.
            again = sorted(stay, key=lambda place: len(self._active[place].chooser.said))[: len(stay) - kept]
            self.add(self._active[place] for place in again)
            gone += again
        self._leave(gone)

    def _joining(self) -> Iterable[list[Writing]]:
        """Groups of those that there is room for, each small enough for one pass."""
        group: list[Writing] = []
        rows = len(self._active)
        width = self._width
        while self._waiting and rows < self._budget.rows:
            longest = self._waiting[-1]
            width = max(width, longest.length)
            if rows and (not self._forward.batches or (rows + 1) * (width + _GROWTH) > self._budget.cache_tokens):
                break
            if group and (len(group) + 1) * group[0].length > self._budget.pass_tokens:
                yield group
                group = []
            group.append(self._waiting.pop())
            rows += 1
        if group:
            yield group

    def _begin(self, group: list[Writing]) -> None:
        """The first token of each; those that go on join the batch."""
        # Where it goes wrong they have to be found.
        self._waiting += group
        rows = [one.tokens for one in group]
        columns = max(map(len, rows))
        cache = self._forward.cache(len(group), columns + _GROWTH)
        if isinstance(cache, SlotCache):
            cache.begin(len(group))
        logits = self._forward.feed(rows, cache, self._budget.pass_tokens)
        broken = logits.isnan().any(-1).tolist()
        tokens = choose(logits, [one.chooser for one in group])
        self._waiting = self._waiting[: -len(group)]
        done = []
        for place, one in enumerate(group):
            if broken[place]:
                one.fail(_OVERFLOW, "server")
            if broken[place] or one.add(tokens[place], self._texts):
                done.append(place)
        if len(done) == len(group):
            return
        if isinstance(cache, SlotCache):
            _move(group, cache.drop(done), len(group) - len(done))
            cache.trim(max(one.length for one in group) - 1)
        # First here: where there is no memory for the rest, they have to be found.
        self._active += group
        if self._cache is None:
            self._cache = cache
        else:
            self._cache.join(cache)

    def _go_on(self) -> None:
        last = torch.tensor([[one.chooser.said[-1]] for one in self._active], device=self._forward.device)
        logits = self._forward(last, [one.length for one in self._active], self._cache)[:, -1]
        tokens = choose(logits, [one.chooser for one in self._active])
        done = [one.add(token, self._texts) for one, token in zip(self._active, tokens, strict=True)]
        self._leave([place for place, ended in enumerate(done) if ended])

    def _leave(self, places: Sequence[int]) -> None:
        if not places:
            return
        if len(places) == len(self._active) or self._cache is None:
            self._active, self._cache = [], None
            return
        _move(self._active, self._cache.drop(places), len(self._active) - len(places))
        # The newest token of a row is not in the cache yet.
        self._cache.trim(max(one.length for one in self._active) - 1)

    def _start_over(self, rows: int, error: Exception) -> None:
        """Everything is fed again, in smaller batches; what was said stays said."""
        self._cache = None
        broken, self._active = self._active, []
        self.add(broken)
        self._budget.free()
        if not self._budget.halve(rows):
            one = self._waiting.pop()
            one.fail(
                f"The memory does not hold this request by itself ({one.length} tokens): {error}. "
                "A smaller max_tokens or dtype, or another device_map, may help.",
                "server",
            )


def _move(rows: list[Writing], moved: Iterable[tuple[int, int]], kept: int) -> None:
    """Does to the list what was done to the cache."""
    for place, source in moved:
        rows[place] = rows[source]
    del rows[kept:]
