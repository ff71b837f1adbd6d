"""An OpenAI-compatible server as an `Endpoint`."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from random import Random

from evalmesh.adapters.openai.access import Access
from evalmesh.adapters.openai.body import BodyEncoder
from evalmesh.adapters.openai.check import EndpointCheck, question, shortened
from evalmesh.adapters.openai.errors import NO_FILES_TEXT, Failure
from evalmesh.adapters.openai.health import Doubt, Health, is_away
from evalmesh.adapters.openai.limiter import AdaptiveLimiter
from evalmesh.adapters.openai.loglikelihood import read_loglikelihood
from evalmesh.adapters.openai.neighbours import Neighbours
from evalmesh.adapters.openai.progress import Progress, answered, error_of, failed
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.adapters.openai.target import Target, resolve_target
from evalmesh.adapters.openai.transport import Transport
from evalmesh.dialect.answer import Answer
from evalmesh.dialect.logprobs import read_token_logprobs
from evalmesh.domain.completion import Completion, Timing
from evalmesh.domain.content import media_of
from evalmesh.domain.errors import EvalmeshError, InvalidInput
from evalmesh.domain.needs import TEXT, Capabilities
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
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
_CHAT = Capabilities(frozenset({"chat"}))
"""Whether images or tools are taken depends on what is served, which the address does not tell."""
_COMPLETION = Capabilities(frozenset({"completion", "loglikelihood"}), modalities=TEXT, tools=False)


class OpenAIEndpoint:
    """Retries, adapts its concurrency, and waits while the server is away.

    What does not count against `max_tries`: an outage (`Health`), which requests wait out; and what the server, or this
    machine, refused for load that other requests of ours were part of: less concurrency is the remedy, and when it has
    come down to one request that is still refused, that counts.
    """

    def __init__(
        self,
        pool: Pool,
        look_up: Callable[[], Target],
        policy: RetryPolicy | None = None,
        rng: Random | None = None,
        media: MediaFiles | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        """`look_up` finds the target with its key; again when the key is refused."""
        self._pool, self._model = pool.id, pool.model
        model = pool.model
        self._media = media
        self._policy = policy or RetryPolicy()
        self._access = Access(look_up, self._policy.key_retry_s)
        target = self._target
        self._rng = rng or Random()  # noqa: S311 - spreads retries, guards nothing
        self._bodies = BodyEncoder(model, target)
        self._neighbours = neighbours or Neighbours()
        self._server = self._neighbours.join(target)
        most = min(model.concurrency, target.most_requests or model.concurrency)
        self._limiter = AdaptiveLimiter(most, self._policy.decrease_interval_s, self._server.limit)
        self._health = Health(target.where, self._look, self._policy, model.outage_timeout_s, self._limiter.lift)
        self._begun = False
        self._wishes: set[str] = set()
        self._answered_at = float("-inf")
        self._short_of_files_at = float("-inf")
        self._capabilities = _CHAT if model.kind == "chat" else _COMPLETION
        self._url = target.chat_url if model.kind == "chat" else target.completions_url
        self._transport = Transport(
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
        """Chat, or legacy completions and with them log-likelihoods, as the model's `kind` says."""
        return self._capabilities

    @property
    def load(self) -> Occupancy:
        """Requests that hold a slot, and how many slots the server is given at the moment."""
        return Occupancy(self._limiter.in_flight, self._limiter.limit)

    @property
    def trouble(self) -> str:
        short = time.monotonic() - self._short_of_files_at < _SHORT_SAID_S
        return self._health.trouble or (NO_FILES_TEXT if short else "")

    async def check(self, kind: RequestKind | None = None, config: GenerationConfig | None = None) -> Sequence[str]:
        check = EndpointCheck(self._ask_small, self._transport.session, lambda: self._target, self._model, self._policy)
        notes = await check.run(
            kind if kind in self._capabilities.kinds else self._model.kind, config or GenerationConfig()
        )
        self._access.accepted()
        self._server.has_answered(self._pool)
        return notes

    async def _ask_small(self, request: Request, config: GenerationConfig, timeout_s: float) -> Failure | None:
        answer = await self._transport.ask(self._url, self._bodies.encode(request, config), timeout_s)
        if isinstance(answer, Answer):
            answer = _read_logprobs(request, config, answer)
        return None if isinstance(answer, Answer) else answer

    async def _look(self, timeout_s: float) -> Failure | None:
        try:
            timeout_s = min(timeout_s, self._model.try_timeout_s)
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
        body: bytes | None = None
        while True:
            if not await self._slot(progress):
                return failed(request, progress, self._gave_up())
            sent_at = time.monotonic()
            try:
                if (refusal := self._access.refusal(sent_at)) is not None:
                    progress.failure = refusal
                    return failed(request, progress)
                if body is None:
                    # Not before there is a slot: bodies with media are large, and many requests wait.
                    body = await self._encode(request, config)
                answer = await self._try(request, config, body, progress)
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

    async def _encode(self, request: Request, config: GenerationConfig) -> bytes:
        if request.kind not in self._capabilities.kinds:
            raise InvalidInput(
                f"The endpoint of {self._model.name} does not serve {request.kind} requests; its model.kind is "
                f"{self._model.kind}.",
                {"field": "model.kind"},
            )
        wanted = {
            part.sha256 for message in request.messages if not message.plain for part in media_of(message.content)
        }
        if not wanted:
            return self._bodies.encode(request, config)
        if self._media is None:
            raise InvalidInput("This model runner has no object store to take media from.")
        return self._bodies.encode(request, config, {sha256: await self._media.read(sha256) for sha256 in wanted})

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

    async def _try(
        self, request: Request, config: GenerationConfig, body: bytes, progress: Progress
    ) -> Answer | Failure:
        """One send, and what it teaches about the endpoint."""
        start_time, started, sent_at = time.time(), time.perf_counter(), time.monotonic()
        if progress.deadline is None:
            progress.deadline = self._health.clock() + self._model.total_timeout_s
        progress.first_sent_at = progress.first_sent_at or start_time
        progress.tries += 1
        timeout_s = min(self._model.try_timeout_s, max(self._left_s(progress), 0.001))
        answer = await self._transport.ask(self._url, body, timeout_s)
        if isinstance(answer, Answer):
            answer = _read_logprobs(request, config, answer)
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
    """Opens nothing yet: the first request connects.

    Raises `InvalidInput` for a url, header or option that cannot be used, `PermissionDenied` for a host that may not be
    asked (with this key), `NotFound` for a key that is not there.
    """
    return OpenAIEndpoint(pool, lambda: resolve_target(pool.model, servers), policy, rng, media, neighbours)


def _read_logprobs(request: Request, config: GenerationConfig, answer: Answer) -> Answer | Failure:
    """The answer with the log probabilities that were asked for."""
    if request.kind == "loglikelihood":
        if answer.finish_reason == "content_filter" and not answer.choices:
            return Failure("bad_request", "A content filter of the endpoint held the prompt back.", retryable=False)
        return read_loglikelihood(request, answer)
    if config.top_logprobs is not None:
        answer.top_logprobs = read_token_logprobs(answer.logprobs)
    return answer
