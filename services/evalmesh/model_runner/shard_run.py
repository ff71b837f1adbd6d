"""One shard being generated: what is known, what is missing, what is not yet safe."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import replace

from evalmesh.domain.completion import Completion
from evalmesh.domain.request import Request
from evalmesh.domain.shard_data import PlannedSample, ShardHeader


class ShardRun:
    """Collects completions of a shard; hands out what a checkpoint must keep."""

    def __init__(self, header: ShardHeader, rows: Iterable[PlannedSample], token: str) -> None:
        self.header = header
        self.requests: list[Request] = [request for row in rows for request in row.requests()]
        self.waiting = 0
        """Requests handed to the endpoint and not answered."""
        self.errored = 0
        self.checkpointed = False
        """Whether any part of it was written by `keep_safe`."""
        self._token = token
        self._parts = itertools.count()
        self._by_id: dict[str, Completion] = {}
        self._begun: dict[str, Completion] = {}
        """Conversations with some of their turns answered."""
        self._digests = {request.id: request.digest for request in self.requests}
        self._unsaved: list[Completion] = []

    def restore(self, completions: Iterable[Completion]) -> int:
        """Takes over what this run checkpointed earlier; returns how many answers that were."""
        return sum(self._adopt(c) for c in completions if self._digests.get(c.request_id) == c.digest)

    def reuse(self, run: str, completions: Iterable[Completion], by_digest: dict[str, Request]) -> None:
        """Copies answers of an earlier run where digests are equal; its errors are not copied."""
        for completion in completions:
            request = by_digest.get(completion.digest)
            if request is None or completion.error is not None or request.id in self._by_id:
                continue
            self._by_id[request.id] = _copy_for(completion, request, completion.reused_from or run)

    def _adopt(self, completion: Completion) -> bool:
        # An error of "cancelled" is a fact about an earlier attempt, not an answer.
        if completion.error is not None and completion.error.error_class == "cancelled":
            return False
        if completion.unfinished:
            known = self._begun.get(completion.request_id)
            if known is None or len(known.turns) < len(completion.turns):
                self._begun[completion.request_id] = completion
            return True
        new = completion.request_id not in self._by_id
        self._by_id[completion.request_id] = completion
        return new

    def missing(self) -> list[Request]:
        """Requests that must still be asked, in plan order."""
        return [request for request in self.requests if request.id not in self._by_id]

    def begun(self, request: Request) -> Completion | None:
        """What is answered of a conversation."""
        return self._begun.get(request.id)

    def keep(self, completion: Completion) -> None:
        """A turn of a conversation was answered."""
        self._begun[completion.request_id] = completion
        self._unsaved.append(completion)

    def add(self, completion: Completion) -> None:
        """A completion came in."""
        self._by_id[completion.request_id] = completion
        self._unsaved.append(completion)
        if completion.error is not None:
            self.errored += 1

    @property
    def generated(self) -> int:
        """Completions there are, errors included."""
        return len(self._by_id)

    def completions(self) -> list[Completion]:
        """All of them in plan order; only for a shard with nothing missing."""
        return [self._by_id[request.id] for request in self.requests]

    def take_unsaved(self) -> tuple[str, list[Completion]]:
        """What the next checkpoint must hold, and its name, which sorts by time."""
        unsaved, self._unsaved = self._unsaved, []
        return f"{time.time_ns():020d}-{self._token}-{next(self._parts)}", unsaved

    def put_back(self, unsaved: list[Completion]) -> None:
        """A checkpoint could not be written: keep its rows for the next."""
        self._unsaved = unsaved + self._unsaved


def _copy_for(completion: Completion, request: Request, run: str) -> Completion:
    return replace(completion, sample_id=request.sample_id, repeat=request.repeat, reused_from=run)
