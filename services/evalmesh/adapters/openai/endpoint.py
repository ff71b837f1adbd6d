"""An OpenAI-compatible server as an `Endpoint`."""

import asyncio
import logging
import time
from collections.abc import Callable
from random import Random

from evalmesh.adapters.openai.access import Access
from evalmesh.adapters.openai.body import BodyEncoder
from evalmesh.adapters.openai.check import check_endpoint
from evalmesh.adapters.openai.errors import Failure
from evalmesh.adapters.openai.limiter import AdaptiveLimiter
from evalmesh.adapters.openai.loglikelihood import read_loglikelihood
from evalmesh.adapters.openai.retry import Breaker, RetryPolicy
from evalmesh.adapters.openai.target import Target, resolve_target
from evalmesh.adapters.openai.transport import Transport
from evalmesh.dialect.answer import Answer
from evalmesh.dialect.logprobs import read_token_logprobs
from evalmesh.domain.completion import Completion, CompletionError, Timing
from evalmesh.domain.content import ContentPart, media_of
from evalmesh.domain.errors import EvalmeshError, InvalidInput
from evalmesh.domain.needs import TEXT, Capabilities
from evalmesh.domain.request import GenerationConfig, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.ports.endpoint import Occupancy
from evalmesh.ports.model_servers import ModelServers
from evalmesh.wire.runs.media_files import MediaFiles

_log = logging.getLogger(__name__)

_CROWDED = frozenset({429, 503, 529})
_CHAT = Capabilities(frozenset({"chat"}))
"""Whether images or tools are taken depends on what is served, which the address does not tell."""
_COMPLETION = Capabilities(frozenset({"completion", "loglikelihood"}), modalities=TEXT, tools=False)


class _Progress:
    """How far one request has come."""

    __slots__ = ("connects_failed", "crowded_out", "deadline", "failure", "timing", "tries")

    def __init__(self) -> None:
        self.tries = 0
        self.connects_failed = 0
        """Those of the tries that no server saw."""
        self.crowded_out = 0
        """Those of the tries that were refused for load that other requests of ours were part of."""
        self.deadline = 0.0
        """Monotonic; set with the first send."""
        self.failure: Failure | None = None
        self.timing: Timing | None = None


class OpenAIEndpoint:
    """Retries, adapts its concurrency, waits out brief outages and gives up on what will not come back.

    Two kinds of failure do not count against `max_tries`. Connect failures: they are retried for as long as
    `RetryPolicy.outage_s` and the total deadline allow, so that a restart costs no completions. And 429, 503 and 529
    while other requests of ours were in flight: less concurrency is the remedy, and when it has come down to one
    request that is still refused, they count.
    """

    def __init__(
        self,
        model: ModelSpec,
        look_up: Callable[[], Target],
        policy: RetryPolicy | None = None,
        rng: Random | None = None,
        media: MediaFiles | None = None,
    ) -> None:
        """`look_up` finds the target with its key; again when the key is refused."""
        self._model = model
        self._media = media
        self._policy = policy or RetryPolicy()
        self._access = Access(look_up, self._policy.key_retry_s)
        target = self._target
        self._rng = rng or Random()  # noqa: S311 - spreads retries, guards nothing
        self._bodies = BodyEncoder(model, target)
        most = min(model.concurrency, target.most_requests or model.concurrency)
        self._limiter = AdaptiveLimiter(most, self._policy.decrease_interval_s)
        self._breaker = Breaker(self._policy)
        self._capabilities = _CHAT if model.kind == "chat" else _COMPLETION
        self._url = target.chat_url if model.kind == "chat" else target.completions_url
        self._transport = Transport(
            lambda: self._target,
            most,
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

    async def check(self) -> None:
        await check_endpoint(self._transport.session(), self._target, self._model, self._policy.check_timeout_s)
        self._access.accepted()

    def renew(self, wish: str) -> None:
        self._access.renew(wish, time.monotonic())

    async def generate(self, request: Request, config: GenerationConfig) -> Completion:
        progress = _Progress()
        body: bytes | None = None
        while True:
            if not self._limiter.try_acquire() and not await self._wait_for_slot(progress):
                return _failed(request, progress, self._gave_up())
            try:
                if not self._may_send(progress):
                    return _failed(request, progress)
                if body is None:
                    # Not before there is a slot: bodies with media are large, and many requests wait.
                    body = await self._encode(request, config)
                answer = await self._try(request, config, body, progress)
            except EvalmeshError as error:
                wrong = isinstance(error, InvalidInput)
                progress.failure = Failure("bad_request" if wrong else "internal", error.message, retryable=False)
                return _failed(request, progress)
            finally:
                self._limiter.release()
            if isinstance(answer, Answer):
                return (
                    await self._with_media(request, answer, progress)
                    if answer.media
                    else _answered(request, answer, progress)
                )
            delay_s = self._delay_s(answer, progress)
            if delay_s is None:
                return _failed(request, progress)
            if time.monotonic() + delay_s >= progress.deadline:
                return _failed(request, progress, self._gave_up())
            await asyncio.sleep(delay_s)

    async def close(self) -> None:
        self._limiter.close()
        await self._transport.close()

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

    async def _wait_for_slot(self, progress: _Progress) -> bool:
        """False when the total deadline passed first; it does not run before the first send."""
        if not progress.tries:
            await self._limiter.acquire()
            return True
        try:
            async with asyncio.timeout(max(0.0, progress.deadline - time.monotonic())):
                await self._limiter.acquire(ahead=True)
        except TimeoutError:
            return False
        return True

    def _may_send(self, progress: _Progress) -> bool:
        now = time.monotonic()
        if (refusal := self._access.refusal(now)) is not None:
            progress.failure = refusal
            return False
        if self._breaker.admits(now):
            return True
        down_s = self._breaker.outage_s(now)
        last = f" {progress.failure.message}" if progress.failure is not None else ""
        progress.failure = Failure(
            "connect", f"No connection to {self._target.where} could be made for {down_s:.0f} s.{last}", retryable=False
        )
        return False

    async def _try(
        self, request: Request, config: GenerationConfig, body: bytes, progress: _Progress
    ) -> Answer | Failure:
        """One send, and what it teaches about the endpoint."""
        start_time, started, sent_at = time.time(), time.perf_counter(), time.monotonic()
        if not progress.tries:
            progress.deadline = sent_at + self._model.total_timeout_s
        progress.tries += 1
        timeout_s = min(self._model.try_timeout_s, progress.deadline - sent_at)
        answer = await self._transport.ask(self._url, body, timeout_s)
        if isinstance(answer, Answer):
            answer = _read_logprobs(request, config, answer)
        if isinstance(answer, Answer):
            self._limiter.succeeded()
            self._breaker.reached()
            first, done = answer.first_token_at, answer.done_at or time.perf_counter()
            progress.timing = Timing(start_time, done - started, None if first is None else first - started)
            return answer
        progress.timing = Timing(start_time, time.perf_counter() - started)
        progress.failure = answer
        if answer.error_class == "connect":
            progress.connects_failed += 1
        elif answer.http_status in _CROWDED and self._limiter.in_flight > 1:
            progress.crowded_out += 1
        self._learn(answer, sent_at)
        return answer

    def _learn(self, failure: Failure, sent_at: float) -> None:
        if failure.error_class == "connect":
            self._breaker.connect_failed(time.monotonic())
        elif failure.error_class != "internal":
            self._breaker.reached()
        if failure.http_status == 401:
            self._access.refused(failure, sent_at, time.monotonic(), self._model.key_ref)
        if failure.overload:
            before = self._limiter.limit
            self._limiter.overloaded(sent_at)
            if self._limiter.limit < before:
                _log.info("%s: concurrency %d -> %d", self._target.where, before, self._limiter.limit)
        if failure.retry_after_s is not None:
            self._limiter.pause(min(failure.retry_after_s, self._policy.max_retry_after_s))

    def _delay_s(self, failure: Failure, progress: _Progress) -> float | None:
        """How long to wait before the next try; `None`: there is none."""
        if not failure.retryable:
            return None
        if failure.error_class == "connect":
            if self._breaker.is_open(time.monotonic()):
                return None
            return self._policy.delay_s(progress.connects_failed, self._rng, connect=True)
        failures = progress.tries - progress.connects_failed
        if failures - progress.crowded_out >= self._model.max_tries:
            return None
        return self._policy.delay_s(failures, self._rng)

    async def _with_media(self, request: Request, answer: Answer, progress: _Progress) -> Completion:
        if self._media is None:
            progress.failure = Failure("internal", "This model runner has no object store to keep media in.")
            return _failed(request, progress)
        try:
            media = tuple([await self._media.keep(data) for data in answer.media])
        except EvalmeshError as error:
            wrong = isinstance(error, InvalidInput)
            progress.failure = Failure("malformed" if wrong else "internal", error.message)
            return _failed(request, progress)
        return _answered(request, answer, progress, media)

    def _gave_up(self) -> str:
        return f" Gave up: total_timeout_s={self._model.total_timeout_s:g} leaves no time for another try."


def open_openai_endpoint(
    pool: Pool,
    servers: ModelServers,
    policy: RetryPolicy | None = None,
    rng: Random | None = None,
    media: MediaFiles | None = None,
) -> OpenAIEndpoint:
    """Opens nothing yet: the first request connects.

    Raises `InvalidInput` for a url, header or option that cannot be used, `PermissionDenied` for a host that may not be
    asked (with this key), `NotFound` for a key that is not there.
    """
    return OpenAIEndpoint(pool.model, lambda: resolve_target(pool.model, servers), policy, rng, media)


def _read_logprobs(request: Request, config: GenerationConfig, answer: Answer) -> Answer | Failure:
    """The answer with the log probabilities that were asked for."""
    if request.kind == "loglikelihood":
        return read_loglikelihood(request, answer)
    if config.top_logprobs is not None:
        answer.top_logprobs = read_token_logprobs(answer.logprobs)
    return answer


def _answered(request: Request, answer: Answer, progress: _Progress, media: tuple[ContentPart, ...] = ()) -> Completion:
    return Completion(
        request.sample_id,
        request.repeat,
        request.digest,
        answer.text,
        answer.reasoning,
        answer.finish_reason,
        answer.continuations,
        tool_calls=answer.tool_calls,
        refusal=answer.refusal,
        media=media,
        top_logprobs=answer.top_logprobs,
        usage=answer.usage,
        timing=progress.timing,
        tries=progress.tries,
    )


def _failed(request: Request, progress: _Progress, addition: str = "") -> Completion:
    failure = progress.failure or Failure("timeout", "No slot came free in time.")
    return Completion(
        request.sample_id,
        request.repeat,
        request.digest,
        timing=progress.timing,
        tries=progress.tries,
        error=CompletionError(failure.error_class, failure.message + addition, failure.http_status),
    )
