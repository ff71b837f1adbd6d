"""What is told of calls of a model, whatever came of them."""

import json

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from evalmesh.domain.completion import Completion, CompletionError, Timing, Usage
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.model_runner.calls import ModelCalls
from evalmesh.ports.endpoint import Occupancy
from evalmesh.runtime.telemetry import metrics
from evalmesh.runtime.telemetry.instruments import heard_by, watched
from evalmesh.runtime.telemetry.ledger import Ledger
from evalmesh.runtime.telemetry.otlp import Sender
from evalmesh.runtime.telemetry.settings import Export
from evalmesh.runtime.telemetry.traces import send_spans_to

REQUEST = Request("s/1", 2, "chat", "d", (Message("system", "Be brief."), Message("user", "What floats?")))
ANSWER = Completion(
    "s/1", 2, "d", text="A cork.", finish_reason="stop", usage=Usage(7, 3), timing=Timing(1000.0, 0.5, 0.125), tries=3
)
FAILED = Completion(
    "s/1", 2, "d", error=CompletionError("rate_limited", "Too many.", 429), timing=Timing(1000.0, 0.5), tries=6
)
NEVER_SENT = Completion("s/1", 2, "d", error=CompletionError("connect", "Nobody there."), tries=0)


class Scripted:
    """An endpoint at the edge of the world."""

    def __init__(self, completion):
        self._completion = completion
        self.load = Occupancy(3, 8)

    async def generate(self, request, config, ask_again=None):
        return self._completion


@pytest.fixture
def spans():
    kept = InMemorySpanExporter()
    sender = Sender(Export({"traces": ""}), alone=False)
    sender._spans = SimpleSpanProcessor(kept)
    send_spans_to(sender.tracer)
    yield kept.get_finished_spans
    send_spans_to(None)


async def ask(completion, model=None, request=REQUEST, config=None):
    calls = ModelCalls(Scripted(completion), model or ModelSpec("org/m", url="https://user:secret@host/v1"))
    assert await calls.generate(request, config or GenerationConfig(seed=5)) is completion


async def test_an_answer(spans):
    await ask(ANSWER)
    (span,) = spans()
    assert span.name == "chat org/m"
    assert (span.start_time, span.end_time) == (1000 * 10**9, 1000_500_000_000)
    assert dict(span.attributes) == {
        "evalmesh.sample": "s/1",
        "evalmesh.repeat": 2,
        "evalmesh.tries": 3,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "org/m",
        "gen_ai.request.seed": 7,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.125,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "host",
        "server.port": 443,
    }


@pytest.mark.parametrize(
    ("completion", "kind", "status"), [(FAILED, "rate_limited", 429), (NEVER_SENT, "connect", None)]
)
async def test_an_error(spans, completion, kind, status):
    await ask(completion)
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes["error.type"], span.attributes.get("http.response.status_code")) == (kind, status)
    assert "gen_ai.response.finish_reasons" not in span.attributes


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("completion", "text_completion"), ("loglikelihood", "text_completion"), ("embedding", "embeddings")],
)
async def test_other_kinds_and_an_engine_without_an_address(spans, kind, operation):
    await ask(ANSWER, ModelSpec("./m", engine="transformers"), Request("s/1", 2, kind, "d", prompt="What floats?"))
    (span,) = spans()
    assert (span.name, span.attributes["gen_ai.provider.name"]) == (f"{operation} ./m", "transformers")
    assert "server.address" not in span.attributes
    assert "server.port" not in span.attributes


async def test_what_was_said_is_kept_on_request_alone(spans, monkeypatch):
    await ask(ANSWER)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    await ask(ANSWER)
    without, told = spans()
    assert "floats" not in str(dict(without.attributes))
    assert json.loads(told.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "What floats?"}]},
    ]
    assert json.loads(told.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "A cork."}], "finish_reason": "stop"}
    ]


async def test_counts():
    ledger, model = Ledger(), ("org/m", "host", "443")
    with heard_by(ledger):
        for completion in (ANSWER, ANSWER, FAILED, NEVER_SENT):
            await ask(completion)
    assert {labels: count for (one, _, labels), count in ledger._counts.items() if one is metrics.COMPLETIONS} == {
        (*model, ""): 2,
        (*model, "rate_limited"): 1,
        (*model, "connect"): 1,
    }
    assert {labels: count for (one, _, labels), count in ledger._counts.items() if one is metrics.TRIES} == {model: 9}
    totals = {(one, labels[-1]): kept.total for (one, _, labels), kept in ledger._values.items()}
    assert totals == {
        (metrics.CALL_DURATION, ""): 1.0,
        (metrics.CALL_DURATION, "rate_limited"): 0.5,
        (metrics.FIRST_CHUNK, "443"): 0.25,
        (metrics.TOKEN_USAGE, "input"): 14,
        (metrics.TOKEN_USAGE, "output"): 6,
    }


def test_how_busy_the_endpoints_of_a_model_are_together():
    calls = ModelCalls(Scripted(ANSWER), ModelSpec("org/m", url="http://host:8000/v1"))
    ends = (calls.watch(), calls.watch())
    model = ("", ("org/m", "host", "8000"))
    assert (watched(metrics.IN_FLIGHT)[model], watched(metrics.LIMIT)[model]) == (6, 16)
    for end in ends:
        end()
    assert model not in watched(metrics.IN_FLIGHT)
