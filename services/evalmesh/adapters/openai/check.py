"""Whether an endpoint can work at all: one small question of the kind that will be asked, answered in seconds.

The list of models is only a help: many servers have none, or a slow one, and some answer to names they do not list.
"""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from evalmesh.adapters.openai.errors import Failure
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.adapters.openai.target import Target
from evalmesh.domain.completion import as_sentence
from evalmesh.domain.errors import (
    EvalmeshError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from evalmesh.domain.request import GenerationConfig, Message, Request, RequestKind
from evalmesh.domain.run import ModelSpec

MOST_TOKENS = 16
_NAMES_SHOWN = 5
_SECOND_TRY_S = 0.3
_LIST_AFTER_S = 0.5
"""So long the list is waited for once the question is answered."""

Ask = Callable[[Request, GenerationConfig, float], Awaitable[Failure | None]]
"""Asks a question within so many seconds; `None` when it was answered."""


def question(kind: RequestKind) -> Request:
    """The smallest of its kind."""
    if kind == "rerank":
        return Request("check", 0, kind, "", prompt="Hi", inputs=("Hi",))
    if kind == "loglikelihood":
        return Request("check", 0, kind, "", prompt="1 + 1 =", continuations=(" 2",))
    if kind == "chat":
        return Request("check", 0, kind, "", messages=(Message("user", "Hi"),))
    return Request("check", 0, kind, "", prompt="Hi")


def shortened(config: GenerationConfig) -> GenerationConfig:
    """With an answer of a few tokens."""
    return replace(config, max_tokens=min(config.max_tokens or MOST_TOKENS, MOST_TOKENS))


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """Asks, and says what is wrong in the words of who asked."""

    ask: Ask
    models: Callable[[float], Awaitable[list[str] | None]]
    """What the server lists, within so many seconds; empty for no list, `None` where nothing answers."""
    target: Callable[[], Target]
    model: ModelSpec
    policy: RetryPolicy
    server: str = "an OpenAI-compatible server"
    """What should be there."""

    async def run(self, kind: RequestKind, config: GenerationConfig) -> Sequence[str]:
        """See `Endpoint.check`."""
        if kind == "image":
            return await self._only_listed()
        listing = asyncio.create_task(self._names())
        asking = asyncio.create_task(self._asked(kind, config))
        try:
            await asyncio.wait((asking,), timeout=self.policy.slow_answer_s)
            if not asking.done() and listing.done() and listing.result() is not None:
                return [self._slow(self.policy.slow_answer_s)]
            failure = await asking
            names = await self._listed(listing, wait=failure is not None)
        finally:
            listing.cancel()
            asking.cancel()
            await asyncio.gather(listing, asking, return_exceptions=True)
        if failure is None:
            return self._notes(names)
        if failure.http_status == 429 and failure.retryable:
            return [f"The endpoint {self.target().where} is busy already. {_said(failure)}"]
        if failure.error_class == "timeout" and names is not None:
            return [self._slow(self.policy.probe_timeout_s)]
        raise self._refusal(failure, names or [])

    async def _only_listed(self) -> Sequence[str]:
        """An image costs more than a word."""
        names = await self._names()
        if names is None:
            raise Unavailable(
                f"The model's endpoint {self.target().where} (--api-url) is not available: its list of models does not "
                "come.",
                {"field": "model.url"},
            )
        return [*self._notes(names), "No image was asked for, since each may cost something."]

    def _slow(self, waited_s: float) -> str:
        return (
            f"The endpoint {self.target().where} is there, but has not answered a small request within {waited_s:g} s; "
            "it may be busy, or waking up."
        )

    async def _asked(self, kind: RequestKind, config: GenerationConfig) -> Failure | None:
        timeout_s = min(self.policy.probe_timeout_s, self.model.try_timeout_s)
        failure = await self.ask(question(kind), shortened(config), timeout_s)
        if failure is None or failure.error_class == "timeout":
            return failure
        if failure.http_status in {400, 422} and config.max_tokens != shortened(config).max_tokens:
            # Some servers refuse short answers; what counts is what the run will ask for.
            return await self.ask(question(kind), config, timeout_s)
        if failure.retryable and failure.http_status != 429:
            await asyncio.sleep(_SECOND_TRY_S)
            return await self.ask(question(kind), shortened(config), timeout_s)
        return failure

    async def _names(self) -> list[str] | None:
        return await self.models(self.policy.list_timeout_s)

    async def _listed(self, listing: "asyncio.Task[list[str] | None]", *, wait: bool) -> list[str] | None:
        done, _ = await asyncio.wait((listing,), timeout=self.policy.list_timeout_s if wait else _LIST_AFTER_S)
        return listing.result() if done else None

    def _notes(self, names: list[str] | None) -> Sequence[str]:
        name = self.model.name
        if not names or name in names or f"{name}:latest" in names:
            return []
        note = (
            f"The endpoint {self.target().where} answers to the model {name!r} (--model) but does not list it; it "
            f"lists: {self._shown(names)}. Make sure that it is the one you mean."
        )
        return [note]

    def _shown(self, names: list[str]) -> str:
        near = difflib.get_close_matches(self.model.name, names, n=1)
        shown = dict.fromkeys([*near, *names[:_NAMES_SHOWN]])
        return self.target().redact(", ".join(shown)) + (", …" if len(names) > len(shown) else "")

    def _refusal(self, failure: Failure, names: list[str]) -> EvalmeshError:
        status, where = failure.http_status, self.target().where
        if status in {401, 403}:
            return self._refused_key(failure)
        if failure.error_class == "connect" or (failure.retryable and failure.error_class != "malformed"):
            return Unavailable(
                f"The model's endpoint {where} (--api-url) is not available. {_said(failure)}", {"field": "model.url"}
            )
        if status == 429:
            return Unavailable(f"The endpoint {where} takes no requests. {_said(failure)}", {"field": "model.key_ref"})
        if (status == 404 and names and self.model.name not in names) or "model_not_found" in failure.message:
            listed = f"; it has: {self._shown(names)}" if names else ""
            return NotFound(
                f"The endpoint {where} does not serve the model {self.model.name!r} (--model){listed}.",
                {"field": "model.name"},
            )
        return self._not_understood(failure)

    def _not_understood(self, failure: Failure) -> EvalmeshError:
        where = self.target().where
        if failure.http_status in {404, 405}:
            return NotFound(
                f"There is nothing to ask at {where} (--api-url) for the model {self.model.name!r} (--model). "
                f"{_said(failure)}",
                {"field": "model.url"},
            )
        if failure.error_class == "bad_request" and failure.http_status is None:
            return InvalidInput(
                f"{_said(failure)} Leave benchmarks that need them out, or serve the model with what tells them: vLLM, "
                "SGLang, or completions that echo.",
                {"field": "model"},
            )
        if failure.error_class == "malformed":
            return InvalidInput(
                f"What {where} (--api-url) says is no answer of {self.server}. {_said(failure)} Check the "
                "address, which mostly ends in /v1.",
                {"field": "model.url"},
            )
        return InvalidInput(
            f"The endpoint {where} refuses a small request of the form that the run would send. {_said(failure)} "
            "Check --api-url, --model, --generation-config and --model-args.",
            {"field": "generation"},
        )

    def _refused_key(self, failure: Failure) -> EvalmeshError:
        ref = self.model.key_ref
        if ref == "env:EVALMESH_API_KEY":
            # By this name the command line hands on a key that was typed, too.
            key = "the key it was given (--api-key; where none is typed, the variable EVALMESH_API_KEY)"
        elif ref or self.model.connection:
            key = f"the key of {ref or self.model.connection!r} (--api-key)" if ref else "the connection's key"
        else:
            key = "a request without a key (give one with --api-key)"
        kind = Unauthenticated if failure.http_status == 401 else PermissionDenied
        return kind(f"The endpoint {self.target().where} refuses {key}. {_said(failure)}", {"field": "model.key_ref"})


def _said(failure: Failure) -> str:
    return as_sentence(failure.message)
