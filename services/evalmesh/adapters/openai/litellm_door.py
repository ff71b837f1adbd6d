"""Any provider that the package litellm knows, asked by its functions in this process.

It connects by itself, so addresses cannot be looked at as they are connected to: a restricted model runner has no such
engine. It would also take keys out of the environment by itself: it is always given one, if only a word that is none,
and an address of the user's own only for providers whose whole credential that key is.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from yarl import URL

from evalmesh.adapters.openai.errors import Failure, Redactor, failure_of_fault, failure_of_status
from evalmesh.adapters.openai.neighbours import SharedServer
from evalmesh.adapters.openai.openai_door import OpenAIDoor
from evalmesh.adapters.openai.target import Manner, Target, resolve_target
from evalmesh.adapters.openai.ways import Way
from evalmesh.dialect.addresses import Address, provider_url
from evalmesh.dialect.answer import Answer
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import RequestKind
from evalmesh.domain.run import ModelSpec
from evalmesh.ports.model_servers import ModelServers

_NO_KEY = "none-given"
_KEY_HEADER = "litellm-key"
_CALLS: Mapping[str, str] = {
    "/chat/completions": "acompletion",
    "/completions": "atext_completion",
    "/embeddings": "aembedding",
    "/rerank": "arerank",
    "/images/generations": "aimage_generation",
}
_ONE_KEY_NAMES = """
anthropic cerebras cohere cohere_chat dashscope deepinfra deepseek fireworks_ai gemini groq hosted_vllm infinity
jina_ai litellm_proxy llamafile lm_studio mistral moonshot novita nvidia_nim ollama ollama_chat openai openrouter
perplexity sambanova text-completion-openai together_ai vllm voyage xai
"""
_ONE_KEY = frozenset(_ONE_KEY_NAMES.split())
"""Providers that may be asked at an address of the user's own: nothing else of this machine's goes there."""
_OPTION_NAMES = """
model messages prompt input query documents max_tokens max_completion_tokens temperature top_p top_k
frequency_penalty presence_penalty reasoning_effort stop seed n stream stream_options logprobs top_logprobs tools
tool_choice parallel_tool_calls response_format thinking logit_bias user dimensions encoding_format size quality
top_n return_documents
"""
_OPTIONS = frozenset(_OPTION_NAMES.split())
"""What its functions take for options of a request; any other key goes into the provider's body and steers nothing."""


def _whole(url: str) -> Address:
    return Address(url.strip().rstrip("/"), None)


LITELLM = Manner(
    "litellm",
    _whole,
    lambda _, key: (_KEY_HEADER, key),
    example="give the provider's address, or leave it out for the one that litellm knows",
)


def resolve_litellm(model: ModelSpec, servers: ModelServers) -> Target:
    """Raises `InvalidInput` without the package, and for an address that this provider may not be asked at."""
    if importlib.util.find_spec("litellm") is None:
        raise InvalidInput(
            "model.engine: litellm is not installed where the model runner runs; install the extra evalmesh[litellm].",
            {"field": "model.engine"},
        )
    provider, _, name = model.name.partition("/")
    if not name:
        raise InvalidInput(
            f"model.model: {model.name!r} names no provider; with the engine litellm write provider/model, as in "
            "anthropic/claude-sonnet-4-5.",
            {"field": "model.model"},
        )
    if model.url and provider not in _ONE_KEY:
        raise InvalidInput(
            f"model.url: the provider {provider!r} is asked at its own address only, since it may send other "
            "credentials of this machine than the key; leave --api-url out.",
            {"field": "model.url"},
        )
    target = resolve_target(replace(model, url=model.url or provider_url(model.name)), servers, LITELLM)
    if target.egress.restricted:
        raise InvalidInput(
            "model.engine: litellm connects by itself, and this model runner may only ask addresses that it looks at; "
            "use openai or anthropic here, or a runner with EVALMESH_EGRESS=open.",
            {"field": "model.engine"},
        )
    return target if model.url else replace(target, where=f"litellm's provider {provider}")


class LiteLLMDoor(OpenAIDoor):
    """Written and read as OpenAI's APIs are, which is what the package translates from and to."""

    server = "a provider of litellm"

    def __init__(self, model: ModelSpec, target: Target) -> None:
        super().__init__(model, target)
        # Its answers never tell what a given text is worth.
        has: Capabilities = self.capabilities
        self.capabilities = replace(has, kinds=has.kinds - {"loglikelihood"}, logprobs=False)

    def ways(self, kind: RequestKind) -> Sequence[Way]:
        return [replace(way, url=URL(way.url.path)) for way in super().ways(kind)]


_open: "set[LiteLLMAsker]" = set()


class LiteLLMAsker:
    """See `transport.Asker`."""

    def __init__(
        self,
        target: Callable[[], Target],
        server: SharedServer,
        *,
        stream: bool,
        try_timeout_s: float,
        connect_timeout_s: float,
    ) -> None:
        del server, stream, try_timeout_s, connect_timeout_s
        self._target = target
        _open.add(self)

    async def models(self, timeout_s: float) -> list[str] | None:
        """There is no list of what a provider has; but it takes a while until one can be asked."""
        del timeout_s
        await asyncio.to_thread(_loaded)
        return []

    async def ask(self, way: Way, body: bytes, timeout_s: float) -> Answer | Failure:
        litellm = await asyncio.to_thread(_loaded)
        redact = self._target().redact
        try:
            async with asyncio.timeout(timeout_s):
                return await self._asked(litellm, way, msgspec.json.decode(body), timeout_s)
        except TimeoutError:
            said = f"No complete answer from {self._target().where} within {timeout_s:.3g} s."
            return Failure("timeout", said, overload=True)
        except Exception as error:  # noqa: BLE001 - the port promises that errors are part of the completion
            return _failure_of(error, litellm, redact)

    async def close(self) -> None:
        """Its connections are shared by the whole process; they go with the last who asks."""
        _open.discard(self)
        package = sys.modules.get("litellm")
        if _open or package is None:
            return
        cache: Any = vars(package)["in_memory_llm_clients_cache"]
        clients = list(cache.cache_dict.values())
        cache.flush_cache()
        vars(package).pop("module_level_aclient", None)  # One of them, made anew when next looked for.
        for client in clients:
            with contextlib.suppress(Exception):
                closing = (getattr(client, "aclose", None) or client.close)()
                if inspect.isawaitable(closing):
                    await closing

    async def _asked(self, litellm: Any, way: Way, fields: dict[str, Any], timeout_s: float) -> Answer | Failure:
        call = getattr(litellm, _CALLS[next(path for path in _CALLS if way.url.path.endswith(path))])
        known = {name: value for name, value in fields.items() if name in _OPTIONS}
        if others := {name: value for name, value in fields.items() if name not in _OPTIONS}:
            known["extra_body"] = others
        answer = await call(**known, **self._around(timeout_s))
        if not fields.get("stream") or way.stream is None:
            found = way.parse(answer.model_dump_json().encode())
            return found if isinstance(found, Answer) else failure_of_fault(found, self._target().redact)
        return await self._put_together(answer, way)

    def _around(self, timeout_s: float) -> dict[str, Any]:
        """What goes with every call. Retries are ours."""
        target = self._target()
        own = {"content-type", "accept", _KEY_HEADER}
        around: dict[str, Any] = {
            "api_key": target.headers.get(_KEY_HEADER, _NO_KEY),
            "timeout": timeout_s,
            "num_retries": 0,
            "max_retries": 0,
        }
        if headers := {name: value for name, value in target.headers.items() if name.lower() not in own}:
            around["extra_headers"] = headers
        if not target.address.base.endswith(".litellm"):
            around["api_base"] = target.address.base
        return around

    async def _put_together(self, chunks: AsyncIterator[Any], way: Way) -> Answer | Failure:
        assert way.stream is not None  # noqa: S101 - for the type checker
        streamed = way.stream()
        async for chunk in chunks:
            fault = streamed.add(chunk.model_dump_json(exclude_none=True).encode(), time.perf_counter())
            if fault is not None:
                return failure_of_fault(fault, self._target().redact)
        if streamed.complete:
            streamed.add(b"[DONE]", time.perf_counter())
        found = streamed.end()
        return found if isinstance(found, Answer) else failure_of_fault(found, self._target().redact)


def _loaded() -> Any:
    """The package, which takes seconds to load; told to fetch no price lists and to send nothing about itself."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm: Any = importlib.import_module("litellm")
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return litellm


def _failure_of(error: Exception, litellm: Any, redact: Redactor) -> Failure:
    """By the status that its exceptions have, which is theirs or the provider's."""
    if isinstance(error, litellm.Timeout):
        return Failure("timeout", redact(str(error)), overload=True)
    status = getattr(error, "status_code", None)
    said = " ".join(str(getattr(error, "message", "") or error).split())
    if isinstance(error, litellm.APIConnectionError) or "connection error" in said.lower() or "connect to" in said:
        return Failure("connect", redact(f"The provider is not reached: {said}"))
    if not isinstance(status, int):
        return Failure("internal", redact(f"litellm failed: {type(error).__name__}: {said}"), retryable=False)
    answer = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None) or getattr(answer, "headers", None) or {}
    body = msgspec.json.encode({"error": {"message": said}})
    return failure_of_status(status, body, {str(name).lower(): str(value) for name, value in headers.items()}, redact)
