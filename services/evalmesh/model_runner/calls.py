"""What is told of each call of a model, in the words of the OpenTelemetry conventions for generative AI.

A call's span and its duration are those of the last try, send to last byte, as in the report; waiting for a slot of the
server is not the model's time. What was said is left out unless the operator wants it
(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT).
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind, Status, StatusCode

from evalmesh.domain.completion import Completion
from evalmesh.domain.content import content_text
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import ModelSpec
from evalmesh.ports.endpoint import AskAgain, Endpoint
from evalmesh.runtime.telemetry import metrics
from evalmesh.runtime.telemetry.instruments import attributes, measuring
from evalmesh.runtime.telemetry.settings import captures_content
from evalmesh.runtime.telemetry.traces import LaterSpan, nanoseconds, tracing

_OPERATIONS: Mapping[RequestKind, str] = {
    "chat": "chat",
    "completion": "text_completion",
    "loglikelihood": "text_completion",
    "embedding": "embeddings",
}
_PORTS = {"http": "80", "https": "443"}


class ModelCalls:
    """The calls of one model at one endpoint."""

    def __init__(self, endpoint: Endpoint, model: ModelSpec) -> None:
        self._endpoint = endpoint
        where = urlsplit(model.url)
        host = where.hostname or ""
        self._model = (model.name, host, str(where.port or _PORTS.get(where.scheme, "")) if host else "")
        self._engine = model.engine
        self._captures = captures_content()

    def watch(self) -> Callable[[], None]:
        """Shows how busy the endpoint is, until the function that is returned is called."""
        ends = (
            metrics.IN_FLIGHT.watch(lambda: {self._model: self._endpoint.load.in_flight}),
            metrics.LIMIT.watch(lambda: {self._model: self._endpoint.load.limit}),
        )

        def end() -> None:
            for one in ends:
                one()

        return end

    async def generate(
        self, request: Request, config: GenerationConfig, ask_again: AskAgain | None = None
    ) -> Completion:
        """As the endpoint's, and told."""
        if not tracing():
            completion = await self._endpoint.generate(request, config, ask_again)
        else:
            later = LaterSpan.reserve()
            with later.current():
                completion = await self._endpoint.generate(request, config, ask_again)
            self._trace(later, request, config, completion)
        if measuring():
            self._measure(request, completion)
        return completion

    def _call(self, request: Request) -> tuple[str, ...]:
        return (_OPERATIONS.get(request.kind, request.kind), self._engine, *self._model)

    def _measure(self, request: Request, completion: Completion) -> None:
        call, error = self._call(request), completion.error
        error_class = "" if error is None else error.error_class
        metrics.COMPLETIONS.add(1, *self._model, error_class)
        metrics.TRIES.add(max(0, completion.tries - 1), *self._model)
        if completion.timing is not None:
            metrics.CALL_DURATION.record(completion.timing.latency_s, *call, error_class)
            if completion.timing.ttft_s is not None:
                metrics.FIRST_CHUNK.record(completion.timing.ttft_s, *call)
        if completion.usage is not None:
            for kind, count in (("input", completion.usage.input_tokens), ("output", completion.usage.output_tokens)):
                if count is not None:
                    metrics.TOKEN_USAGE.record(count, *call, kind)

    def _trace(self, later: LaterSpan, request: Request, config: GenerationConfig, completion: Completion) -> None:
        call, timing = self._call(request), completion.timing
        began = time.time() if timing is None else timing.start_time
        told = {**_asked(request, config), **_answered(completion)}
        told |= attributes(metrics.FIRST_CHUNK, call)
        if self._captures:
            told |= _said(request, completion)
        known = {name: value for name, value in told.items() if value not in (None, "", ())}
        span = later.begun(f"{call[0]} {self._model[0]}", began, known, SpanKind.CLIENT)
        if completion.error is not None:
            span.set_status(Status(StatusCode.ERROR, completion.error.message))
        span.end(nanoseconds(began + (0.0 if timing is None else timing.latency_s)))


def _asked(request: Request, config: GenerationConfig) -> dict[str, Any]:
    return {
        "evalmesh.sample": request.sample_id,
        "evalmesh.repeat": request.repeat,
        "gen_ai.request.max_tokens": config.max_tokens,
        "gen_ai.request.temperature": config.temperature,
        "gen_ai.request.top_p": config.top_p,
        "gen_ai.request.top_k": config.top_k,
        "gen_ai.request.frequency_penalty": config.frequency_penalty,
        "gen_ai.request.presence_penalty": config.presence_penalty,
        "gen_ai.request.stop_sequences": config.stop,
        "gen_ai.request.seed": None if config.seed is None else config.seed + request.repeat,
    }


def _answered(completion: Completion) -> dict[str, Any]:
    usage, error, timing = completion.usage, completion.error, completion.timing
    return {
        "evalmesh.tries": completion.tries,
        "gen_ai.response.finish_reasons": (completion.finish_reason,) if error is None else None,
        "gen_ai.response.time_to_first_chunk": None if timing is None else timing.ttft_s,
        "gen_ai.usage.input_tokens": None if usage is None else usage.input_tokens,
        "gen_ai.usage.output_tokens": None if usage is None else usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": None if usage is None else usage.cached_tokens,
        "error.type": None if error is None else error.error_class,
        "http.response.status_code": None if error is None else error.http_status,
    }


def _said(request: Request, completion: Completion) -> dict[str, str]:
    """Prompts and answers, as JSON in the form of the conventions; media are left out."""
    asked = [(one.role, content_text(one.content)) for one in request.messages] or [("user", request.prompt)]
    answer = {**_message("assistant", completion.text), "finish_reason": completion.finish_reason}
    return {
        "gen_ai.input.messages": json.dumps([_message(role, text) for role, text in asked], ensure_ascii=False),
        "gen_ai.output.messages": json.dumps([answer], ensure_ascii=False) if completion.error is None else "",
    }


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
