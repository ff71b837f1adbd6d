"""An engine of our own as an `Endpoint`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from evalmesh.adapters.engines.crew import Crew
from evalmesh.adapters.engines.engine import EngineRequest
from evalmesh.adapters.engines.protocol import Opened
from evalmesh.domain.completion import Completion, CompletionError, as_sentence
from evalmesh.domain.content import media_of
from evalmesh.domain.errors import LOADING, EvalmeshError, FailedPrecondition, InvalidInput, Unavailable
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Message, Request, RequestKind
from evalmesh.domain.run import ModelSpec
from evalmesh.ports.endpoint import AskAgain, EndpointGone, Occupancy
from evalmesh.wire.runs.media_files import MediaFiles

_UNKNOWN = Capabilities(frozenset({"chat", "completion", "loglikelihood"}))
_CHECK_S = 10.0
"""Who asks whether a model works hears after this that it is being loaded, and asks again."""
_MOST_TOKENS = 2
_QUESTION = "Say OK."


class EngineEndpoint:
    """One pool's view of the copies of a model, which other pools may share.

    A death costs what was in flight, which is asked again (`Crew`). There is no time limit for a request, since an
    engine takes as many at once as it likes: `try_timeout_s` is how long it may be silent with work in hand.
    """

    def __init__(self, model: ModelSpec, crew: Crew, media: MediaFiles | None, left: Callable[[], None]) -> None:
        """`left` is called when the endpoint is closed."""
        self._model = model
        self._crew = crew
        self._media = media
        self._left: Callable[[], None] | None = left
        self._in_flight = 0

    @property
    def capabilities(self) -> Capabilities:
        """As the engine says; before it is loaded nothing is known."""
        return _UNKNOWN if self._crew.opened is None else self._crew.opened.capabilities

    @property
    def load(self) -> Occupancy:
        return Occupancy(self._in_flight, self._crew.load.limit)

    @property
    def trouble(self) -> str:
        return self._crew.trouble

    async def check(self, kind: RequestKind | None = None, config: GenerationConfig | None = None) -> Sequence[str]:
        """See the port. Raises `Unavailable` with the detail `loading` while the model is being loaded."""
        was_open = self._crew.opened is not None
        try:
            async with asyncio.timeout(_CHECK_S):
                opened = await self._crew.open()
                self._check_weights(opened)
                kind = kind if kind in opened.capabilities.kinds else self._model.kind
                if kind in opened.capabilities.kinds:
                    await self._check_answer(kind, config or GenerationConfig())
        except TimeoutError:
            if not was_open:
                waiting = self._crew.trouble or f"The model {self._model.name} is being loaded."
                raise Unavailable(waiting, {"field": "model.model", LOADING: "true"}) from None
            # It is at work, or slow.
        return list(self._crew.notes)

    def _check_weights(self, opened: Opened) -> None:
        if self._model.weights and self._model.weights != opened.capabilities.weights:
            raise FailedPrecondition(
                f"The files of the model {self._model.name} are not those that the run was submitted with, so its "
                "answers would be another model's; put them back, or start a run of its own for them.",
                {"field": "model.model"},
            )

    async def _check_answer(self, kind: RequestKind, config: GenerationConfig) -> None:
        request = _question(kind)
        small = replace(config, max_tokens=min(config.max_tokens or _MOST_TOKENS, _MOST_TOKENS))
        try:
            completion = await self._crew.answer(EngineRequest(request, small))
        except EndpointGone as gone:
            raise Unavailable(gone.message, {"field": "model.model"}) from gone
        if completion.error is not None:
            raise InvalidInput(
                f"The model {self._model.name} cannot answer a small {kind} request. "
                f"{as_sentence(completion.error.message)}",
                {"field": "model.args"},
            )

    def renew(self, wish: str) -> None:  # noqa: ARG002  (every wish is as good)
        self._crew.renew()

    async def generate(
        self,
        request: Request,
        config: GenerationConfig,
        ask_again: AskAgain | None = None,  # noqa: ARG002  (nothing fails twice and is tried once more)
    ) -> Completion:
        try:
            self._check_weights(await self._crew.open())
        except EvalmeshError as error:
            raise EndpointGone(error.message) from error
        self._in_flight += 1
        try:
            if request.kind not in self.capabilities.kinds:
                kinds = ", ".join(sorted(self.capabilities.kinds))
                raise InvalidInput(f"The engine of {self._model.name} answers {kinds}, and no {request.kind} requests.")
            return await self._crew.answer(EngineRequest(request, config, await self._media_of(request)))
        except EvalmeshError as error:
            wrong = isinstance(error, InvalidInput)
            failed = CompletionError("bad_request" if wrong else "internal", error.message)
            return Completion(request.sample_id, request.repeat, request.digest, error=failed)
        finally:
            self._in_flight -= 1

    async def _media_of(self, request: Request) -> dict[str, bytes]:
        wanted = {
            part.sha256 for message in request.messages if not message.plain for part in media_of(message.content)
        }
        if not wanted:
            return {}
        if self._media is None:
            raise InvalidInput("This model runner has no object store to take media from.")
        return {sha256: await self._media.read(sha256) for sha256 in wanted}

    async def close(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left()


def _question(kind: RequestKind) -> Request:
    if kind == "chat":
        return Request("check", 0, kind, "", messages=(Message("user", _QUESTION),))
    return Request("check", 0, kind, "", prompt=_QUESTION, continuations=(" OK",) if kind == "loglikelihood" else ())
