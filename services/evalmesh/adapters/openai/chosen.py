"""Which way an endpoint asks requests of a kind: the only one, or the first of several that its server knows."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from evalmesh.adapters.openai.check import question
from evalmesh.adapters.openai.errors import Failure
from evalmesh.adapters.openai.neighbours import SharedServer
from evalmesh.adapters.openai.ways import Door, Way
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Request, RequestKind

AskBy = Callable[[Way, Request, GenerationConfig], Awaitable[Failure | None]]
"""Asks by this way; `None` when it was answered."""
_ANOTHER_WAY = frozenset({400, 404, 405, 415, 422, 500, 501})
"""Statuses by which servers say that they do not know a call or an option."""


class ChosenWays:
    """Those of one endpoint. What was found out is remembered for all endpoints of its pool in this process."""

    def __init__(self, door: Door, server: SharedServer, pool: str, where: str) -> None:
        self._door = door
        self._server = server
        self._pool = pool
        self._where = where
        self._ways: dict[RequestKind, Sequence[Way]] = {}
        self._known: dict[RequestKind, Way] = {}
        self._finding = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """Of the door, with what was found out."""
        has = self._door.capabilities
        return replace(has, logprobs=True) if (self._pool, "loglikelihood") in self._server.ways else has

    def of(self, kind: RequestKind) -> Sequence[Way]:
        """All there are."""
        if kind not in self._ways:
            self._ways[kind] = self._door.ways(kind)
        return self._ways[kind]

    def known(self, kind: RequestKind) -> Way | None:
        """The way, where there is nothing to find out any more."""
        way = self._known.get(kind)
        if way is None and (ways := self.of(kind)):
            place = 0 if len(ways) == 1 else self._server.ways.get((self._pool, kind))
            if place is not None:
                way = self._known[kind] = ways[place]
        return way

    async def find(self, kind: RequestKind, config: GenerationConfig, ask: AskBy) -> Way | Failure:
        """Tries them in their order, one caller at a time; the failure names what each was answered."""
        async with self._finding:
            if (way := self.known(kind)) is not None:
                return way
            failures: list[Failure] = []
            for place, way in enumerate(self.of(kind)):
                failure = await ask(way, question(kind), config)
                if failure is None:
                    self._server.ways[self._pool, kind] = place
                    return way
                if failure.error_class != "malformed" and failure.http_status not in _ANOTHER_WAY:
                    return failure  # It says nothing of the way.
                failures.append(failure)
        tried = [
            f"{way.name}: {one.message.rpartition(f'by {way.name}: ')[2]}"
            for way, one in zip(self.of(kind), failures, strict=True)
        ]
        statuses = {one.http_status for one in failures}
        return Failure(
            "bad_request",
            f"The endpoint {self._where} tells no log probabilities of a given text. Tried were " + " ".join(tried),
            statuses.pop() if len(statuses) == 1 else None,
            retryable=False,
        )

    def notes(self, kind: RequestKind) -> list[str]:
        """What to know of the way that was found."""
        way = self.known(kind)
        if way is None or not way.name:
            return []
        return [f"Log-likelihoods of {self._where} come from {way.name}."]
