"""A model server as an `Endpoint`, whichever API it speaks (`ways.Door`)."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from evalmesh.adapters.openai.access import Access
from evalmesh.adapters.openai.anthropic_door import ANTHROPIC, AnthropicDoor
from evalmesh.adapters.openai.check import EndpointCheck, question, shortened
from evalmesh.adapters.openai.chosen import ChosenWays
from evalmesh.adapters.openai.errors import NO_FILES_TEXT, Failure, failure_of_fault
from evalmesh.adapters.openai.health import Doubt, Health, is_away
from evalmesh.adapters.openai.limiter import AdaptiveLimiter
from evalmesh.adapters.openai.litellm_door import LiteLLMAsker, LiteLLMDoor, resolve_litellm
from evalmesh.adapters.openai.loglikelihood import alone, joined
from evalmesh.adapters.openai.neighbours import Neighbours
from evalmesh.adapters.openai.openai_door import OpenAIDoor
from evalmesh.adapters.openai.progress import Progress, Question, answered, error_of, failed
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.adapters.openai.target import Target, resolve_target
from evalmesh.adapters.openai.transport import OpenTransport, Transport
from evalmesh.adapters.openai.ways import Door, Media, Way, not_served
from evalmesh.dialect.answer import Answer
from evalmesh.domain.completion import Completion, Timing
from evalmesh.domain.content import media_of
from evalmesh.domain.errors import EvalmeshError, InvalidInput
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.ports.endpoint import AskAgain, Occupancy
from evalmesh.ports.model_servers import ModelServers
from evalmesh.wire.runs.media_files import MediaFiles

_log = logging.getLogger(__name__)

_CROWDED = frozenset({429, 503, 529})
_TRIES_BEFORE_ASKING = 2
_WISHES_KEPT = 1000
_SHORT_SAID_S = 20.0
"""That connections are scarce here passes in a moment, since fewer are made; so long it is told."""
_LOOK = shortened(GenerationConfig())


@dataclass(frozen=True, slots=True)
class Entrance:
    """What is particular to the API that a model speaks."""

    look_up: Callable[[], Target]
    """Finds the target with its key; again when the key is refused."""
    open_door: Callable[[ModelSpec, Target], Door] = OpenAIDoor
    open_transport: OpenTransport = Transport


class OpenAIEndpoint:
    """Retries, adapts its concurrency, and waits while the server is away.

    What does not count against `max_tries`: an outage (`Health`), which requests wait out; and what the server, or this
    machine, refused for load that other requests of ours were part of: less concurrency is the remedy, and when it has
    come down to one request that is still refused, that counts.
    """

    def __init__(
        self,
        pool: Pool,
        entrance: Entrance,
        policy: RetryPolicy | None = None,
        rng: Random | None = None,
        media: MediaFiles | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        """Raises what looking up the target raises."""
        self._pool, self._model = pool.id, pool.model
        model = pool.model
        self._media = media
        self._policy = policy or RetryPolicy()
        self._access = Access(entrance.look_up, self._policy.key_retry_s)
        target = self._target
        self._rng = rng or Random()  # noqa: S311 - spreads retries, guards nothing
        self._neighbours = neighbours or Neighbours()
        self._server = self._neighbours.join(target)
        most = min(model.concurrency, target.most_requests or model.concurrency)
        self._limiter = AdaptiveLimiter(most, self._policy.decrease_interval_s, self._server.limit)
        self._health = Health(target.where, self._look, self._policy, model.outage_timeout_s, self._limiter.lift)
        self._begun = False
        self._wishes: set[str] = set()
        self._answered_at = float("-inf")
        self._short_of_files_at = float("-inf")
        self._door = entrance.open_door(model, target)
        self._ways = ChosenWays(self._door, self._server, pool.id, target.where)
        self._transport = entrance.open_transport(
            lambda: self._target,
            self._server,
            stream=model.stream,
            try_timeout_s=model.try_timeout_s,
            connect_timeout_s=self._policy.connect_timeout_s,
        )

    @property
    def _target(self) -> Target:
        return self._access.target

    @property
    def capabilities(self) -> Capabilities:
        """Of the model's `kind`; whether it tells log-likelihoods is known once it was asked for them."""
        return self._ways.capabilities

    @property
    def load(self) -> Occupancy:
        """Requests that hold a slot, and how many slots the server is given at the moment."""
        return Occupancy(self._limiter.in_flight, self._limiter.limit)

    @property
    def trouble(self) -> str:
        short = time.monotonic() - self._short_of_files_at < _SHORT_SAID_S
        return self._health.trouble or (NO_FILES_TEXT if short else "")

    async def check(self, kind: RequestKind | None = None, config: GenerationConfig | None = None) -> Sequence[str]:
        models, where = self._transport.models, lambda: self._target
        check = EndpointCheck(self._ask_small, models, where, self._model, self._policy, self._door.server)
        kind = kind if kind in self.capabilities.kinds else self._model.kind
        notes = await check.run(kind, config or GenerationConfig())
        self._access.accepted()
        self._server.has_answered(self._pool)
        return [*notes, *self._ways.notes(kind)]

    async def _ask_small(self, request: Request, config: GenerationConfig, timeout_s: float) -> Failure | None:
        async def ask(way: Way, request: Request, config: GenerationConfig) -> Failure | None:
            question = Question(request, config, way, self._encoded(way, request, config, {}))
            answer = await self._ask(question, timeout_s)
            return None if isinstance(answer, Answer) else answer

        known = self._ways.known(request.kind)
        if known is not None:
            return await ask(known, request, config)
        found = await self._ways.find(request.kind, config, ask)
        return found if isinstance(found, Failure) else None

    async def _look(self, timeout_s: float) -> Failure | None:
        timeout_s = min(timeout_s, self._model.try_timeout_s)
        if self._model.kind == "image":
            # An image costs more than a word.
            listed = await self._transport.models(timeout_s)
            failure = None if listed is not None else Failure("connect", f"{self._target.where} lists no models.")
        else:
            try:
                failure = await self._ask_small(question(self._model.kind), _LOOK, timeout_s)
            except EvalmeshError:
                return None  # Options that cannot be sent say nothing of the server.
        if failure is None:
            self._server.has_answered(self._pool)
        return failure

    def renew(self, wish: str) -> None:
        self._access.renew(wish, time.monotonic())
        if wish not in self._wishes:
            if len(self._wishes) >= _WISHES_KEPT:
                self._wishes.clear()
            self._wishes.add(wish)
            self._health.again()

    async def generate(
        self, request: Request, config: GenerationConfig, ask_again: AskAgain | None = None
    ) -> Completion:
        self._begin()
        progress = Progress(self._health.clock())
        question = Question(request, config)
        while True:
            if not await self._slot(progress):
                return failed(request, progress, self._gave_up())
            sent_at = time.monotonic()
            try:
                if (refusal := self._access.refusal(sent_at)) is not None:
                    progress.failure = refusal
                    return failed(request, progress)
                # Not before there is a slot: bodies with media are large, and many requests wait.
                unready = None if self._written(question) else await self._prepare(question)
                answer = await self._try(question, progress, unready)
                crowded = isinstance(answer, Failure) and self._is_crowded(answer)
            except EvalmeshError as error:
                wrong = isinstance(error, InvalidInput)
                progress.failure = Failure("bad_request" if wrong else "internal", error.message, retryable=False)
                return failed(request, progress)
            finally:
                self._limiter.release()
            if isinstance(answer, Answer):
                return (
                    await self._with_media(request, answer, progress)
                    if answer.media
                    else answered(request, answer, progress)
                )
            if not await self._goes_on(answer, progress, sent_at, crowded=crowded):
                return failed(request, progress)
            if progress.failures >= _TRIES_BEFORE_ASKING and ask_again is not None:
                await ask_again(error_of(answer), progress.first_sent_at)
            delay_s = self._policy.delay_s(max(1, progress.tries - progress.away), self._rng)
            if delay_s >= self._left_s(progress):
                return failed(request, progress, self._gave_up())
            await asyncio.sleep(delay_s)

    async def close(self) -> None:
        await self._health.close()
        self._limiter.close()
        await self._transport.close()
        await self._neighbours.leave(self._server)

    def _begin(self) -> None:
        """An endpoint that has not answered anything lately is asked something small before it gets a load."""
        if self._begun:
            return
        self._begun = True
        if not self._server.answered_since(self._pool, time.monotonic() - self._policy.proven_s):
            self._health.begin_with_a_look()

    async def _goes_on(self, failure: Failure, progress: Progress, sent_at: float, *, crowded: bool) -> bool:
        """Whether there is another try; waits for the end of an outage. Raises `EndpointGone`."""
        if not failure.retryable:
            return False
        last = progress.failures >= self._model.max_tries
        crowded = crowded or failure.short_of_files
        progress.crowded_out += crowded
        if is_away(failure):
            doubt = Doubt(failure, sent_at, last and not crowded, lambda: self._left_s(progress))
            progress.away += await self._health.was_away(doubt) and not crowded
        return progress.failures < self._model.max_tries

    def _written(self, question: Question) -> bool:
        """Writes the body if nothing has to be waited for; whether it is there. Raises `InvalidInput`."""
        if question.bodies:
            return True
        request = question.request
        way = self._ways.known(request.kind)
        if way is None or any(not message.plain for message in request.messages):
            return False
        question.way, question.bodies = way, self._encoded(way, request, question.config, {})
        return True

    async def _prepare(self, question: Question) -> Failure | None:
        """The same with media, or where the way has to be found first; `None` when that is done."""
        request, config = question.request, question.config
        if request.kind not in self.capabilities.kinds:
            raise not_served(self._model.name, request.kind, self._model.kind)
        way = self._ways.known(request.kind) or await self._ways.find(request.kind, config, self._ask_by)
        if isinstance(way, Failure):
            return way
        wanted = {part.sha256 for message in request.messages for part in media_of(message.content)}
        if wanted and self._media is None:
            raise InvalidInput("This model runner has no object store to take media from.")
        media = {sha256: await self._media.read(sha256) for sha256 in wanted} if self._media is not None else {}
        question.way, question.bodies = way, self._encoded(way, request, config, media)
        return None

    def _encoded(self, way: Way, request: Request, config: GenerationConfig, media: Media) -> list[bytes]:
        if not way.one_by_one:
            return [way.encode(request, config, media)]
        return [way.encode(one, config, media) for one in alone(request)]

    async def _ask_by(self, way: Way, request: Request, config: GenerationConfig) -> Failure | None:
        bodies = self._encoded(way, request, config, {})
        answer = await self._ask(Question(request, config, way, bodies), self._policy.probe_timeout_s)
        return None if isinstance(answer, Answer) else answer

    async def _ask(self, question: Question, timeout_s: float) -> Answer | Failure:
        """One exchange, or one for each continuation where they are asked by themselves."""
        way, answers = question.way, []
        assert way is not None  # noqa: S101 - for the type checker
        asked = alone(question.request) if way.one_by_one else (question.request,)
        for one, body in zip(asked, question.bodies, strict=True):
            answer = await self._transport.ask(way, body, timeout_s)
            found = answer if isinstance(answer, Failure) else way.finish(one, question.config, answer)
            if not isinstance(found, Answer):
                return found if isinstance(found, Failure) else failure_of_fault(found, self._target.redact)
            answers.append(found)
        return answers[0] if len(answers) == 1 else joined(answers)

    async def _slot(self, progress: Progress) -> bool:
        """Waits until the endpoint is there and has a slot; false when the time of the request is over first.

        Before its first send a request has none, but nobody waits in a line that does not move.
        """

        def left_s() -> float:
            return self._left_s(progress)

        while True:
            if self._health.waits and not await self._health.back(left_s):
                return False
            if not self._limiter.try_acquire() and not await self._limiter.acquire(
                ahead=progress.tries > 0, left_s=left_s
            ):
                return False
            if not self._health.waits:
                return True
            self._limiter.release()

    def _left_s(self, progress: Progress) -> float:
        deadline = progress.deadline
        if deadline is None:
            deadline = max(progress.began, self._answered_at) + self._model.total_timeout_s
        return deadline - self._health.clock()

    def _is_crowded(self, failure: Failure) -> bool:
        """Whether it may be for other requests of ours. Before `release`."""
        refused = failure.http_status in _CROWDED or (failure.error_class == "reset" and failure.overload)
        return refused and self._limiter.busy > 1

    async def _try(self, question: Question, progress: Progress, unready: Failure | None) -> Answer | Failure:
        """One send, and what it teaches about the endpoint; `unready`: it has failed already."""
        start_time, started, sent_at = time.time(), time.perf_counter(), time.monotonic()
        if progress.deadline is None:
            progress.deadline = self._health.clock() + self._model.total_timeout_s
        progress.first_sent_at = progress.first_sent_at or start_time
        progress.tries += 1
        timeout_s = min(self._model.try_timeout_s, max(self._left_s(progress), 0.001))
        answer = unready or await self._ask(question, timeout_s)
        if isinstance(answer, Answer):
            self._limiter.succeeded()
            self._health.answered()
            self._answered_at = self._health.clock()
            first, done = answer.first_token_at, answer.done_at or time.perf_counter()
            progress.timing = Timing(start_time, done - started, None if first is None else first - started)
            return answer
        progress.timing = Timing(start_time, time.perf_counter() - started)
        progress.failure = answer
        self._learn(answer, sent_at)
        return answer

    def _learn(self, failure: Failure, sent_at: float) -> None:
        if not is_away(failure) and failure.error_class not in {"connect", "internal"}:
            self._health.answered()
        if failure.short_of_files:
            self._limiter.settle_for_less(self._policy.decrease_interval_s)
            if time.monotonic() - self._short_of_files_at >= _SHORT_SAID_S:
                _log.warning("%s", failure.message)
                self._short_of_files_at = time.monotonic()
        if failure.http_status == 401:
            self._access.refused(failure, sent_at, time.monotonic(), self._model.key_ref)
        if failure.overload:
            before = self._limiter.limit
            self._limiter.overloaded(sent_at)
            if self._limiter.limit < before:
                _log.info("%s: concurrency %d -> %d", self._target.where, before, self._limiter.limit)
        if failure.retry_after_s is not None:
            self._limiter.pause(min(failure.retry_after_s, self._policy.max_retry_after_s))

    async def _with_media(self, request: Request, answer: Answer, progress: Progress) -> Completion:
        if self._media is None:
            progress.failure = Failure("internal", "This model runner has no object store to keep media in.")
            return failed(request, progress)
        try:
            media = tuple([await self._media.keep(data) for data in answer.media])
        except EvalmeshError as error:
            wrong = isinstance(error, InvalidInput)
            progress.failure = Failure("malformed" if wrong else "internal", error.message)
            return failed(request, progress)
        return answered(request, answer, progress, media)

    def _gave_up(self) -> str:
        return f" Gave up: total_timeout_s={self._model.total_timeout_s:g} leaves no time for another try."


def open_openai_endpoint(
    pool: Pool,
    servers: ModelServers,
    policy: RetryPolicy | None = None,
    rng: Random | None = None,
    media: MediaFiles | None = None,
    neighbours: Neighbours | None = None,
) -> OpenAIEndpoint:
    """By the engine of its model. Opens nothing yet: the first request connects.

    Raises `InvalidInput` for a url, header or option that cannot be used, `PermissionDenied` for a host that may not be
    asked (with this key), `NotFound` for a key that is not there.
    """
    if pool.model.engine == "anthropic":
        entrance = Entrance(lambda: resolve_target(pool.model, servers, ANTHROPIC), AnthropicDoor)
    elif pool.model.engine == "litellm":
        entrance = Entrance(lambda: resolve_litellm(pool.model, servers), LiteLLMDoor, LiteLLMAsker)
    else:
        entrance = Entrance(lambda: resolve_target(pool.model, servers))
    return OpenAIEndpoint(pool, entrance, policy, rng, media, neighbours)
