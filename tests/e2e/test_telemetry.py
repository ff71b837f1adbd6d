"""What an operator's collector is sent of a run, read from one; and of `/metrics`, read by a scraper."""

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kit.cli import Done, evalmesh, report_in
from tests.kit.otlp import Collector, collector, grpc_collector
from tests.kit.platform import run_to_end, write_questions
from tests.kit.simulator import simulator

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.timeout(180)

ROWS = 12
SETS = ("one", "two")
"""Two benchmarks of the same rows, each of which is one shard."""
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CLIENT = 3
"""The kind of a span, in the protocol."""
SECRET = "Which value belongs to entry"
"""Of every prompt."""
RUNNER, SCORER = "eu-model-runner", "eu-scorer"


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", ROWS)


@pytest.fixture(scope="module")
def model(questions):
    knows = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", knows, "--fault", "400:every=6") as running:
        yield running


def evaluate(folder, model, questions, *flags, **environment):
    """A run in which some requests are refused."""
    sets = [f"{name}=general_mcq:{questions}" for name in SETS]
    asked = ("--model", "simulated", "--api-url", model.url, "--datasets", *sets, "--ignore-errors")
    model.reset()
    return evalmesh("eval", *asked, *flags, cwd=folder, within_s=120, **environment)


@dataclass(frozen=True)
class Told:
    """A run, and what the collector was told of it."""

    done: Done
    report: dict[str, Any]
    seen: Collector

    def total_of(self, count):
        return sum(count(benchmark) for benchmark in self.report["benchmarks"])


@pytest.fixture(scope="module", params=[(), ("--processes",)], ids=["one process", "processes"])
def told(request, tmp_path_factory, model, questions):
    folder = tmp_path_factory.mktemp("told")
    flags = ("--debug", "--generation-config", '{"temperature": 0.5, "max_tokens": 64}', *request.param)
    wanted = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=abc", "OTEL_SERVICE_NAME": "eu"}
    with collector() as seen:
        done = evaluate(folder, model, questions, *flags, OTEL_EXPORTER_OTLP_ENDPOINT=seen.url, **wanted)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    return Told(done, report_in(folder / "outputs"), seen)


def way_up(span, spans):
    """The span and all above it."""
    by_id = {one.id: one for one in spans}
    path = [span]
    while path[-1].parent:
        assert path[-1].parent in by_id, f"{path[-1].name} hangs below a span that nobody sent"
        path.append(by_id[path[-1].parent])
    return path


def test_a_run_is_one_trace_that_the_report_names(told):
    trace = told.report["run"]["trace_id"]
    assert {span.trace_id for span in told.seen.spans} == {trace}
    assert f"trace {trace}" in told.done.stderr
    assert all(headers["x-key"] == "abc" for headers in told.seen.headers)


def test_each_sample_can_be_followed_through_every_service(told):
    spans = told.seen.spans
    calls = [span for span in spans if span.name == "chat simulated"]
    scored = {span.parent: span for span in spans if span.name == "score"}
    found = Counter()
    for call in calls:
        path = way_up(call, spans)
        assert [(span.service, span.name) for span in path] == [
            (RUNNER, "chat simulated"),
            (RUNNER, "generate"),
            ("eu-dataset-loader", "plan"),
            ("eu-gateway", "evalmesh.v1.RunService/CreateRun"),
            ("eu", "evalmesh eval"),
        ]
        generated = path[1]
        assert generated.start_ns <= call.start_ns <= call.end_ns <= generated.end_ns
        about = [generated.attributes[f"evalmesh.{name}"] for name in ("run", "benchmark", "shard")]
        assert about[0] == told.report["run"]["id"]
        score = scored[generated.id]
        assert score.service == SCORER
        assert [score.attributes[f"evalmesh.{name}"] for name in ("run", "benchmark", "shard")] == about
        found[about[1], call.attributes["evalmesh.sample"]] += 1
    assert found == {(name, f"default/{number}"): 1 for name in SETS for number in range(ROWS)}
    for reduce in (span for span in spans if span.name == "reduce"):
        assert reduce.service == "eu-report-aggregator"
        assert [span.name for span in way_up(reduce, spans)][1:4] == ["arrive", "score", "generate"]


def test_logs_belong_to_the_spans_they_were_written_in(told):
    scored = {span.id: span for span in told.seen.spans if span.name == "score"}
    said = [log for log in told.seen.logs if log.body == "score done"]
    assert {log.span_id for log in said} == set(scored)
    for log in said:
        span = scored[log.span_id]
        assert (log.service, log.trace_id) == (SCORER, span.trace_id)
        assert log.attributes["evalmesh.benchmark"] == span.attributes["evalmesh.benchmark"]


def test_calls_are_told_in_the_words_of_the_conventions_and_without_what_was_said(told, model):
    calls = [span for span in told.seen.spans if span.name == "chat simulated"]
    good = next(call for call in calls if not call.error)
    host, _, port = model.root.removeprefix("http://").partition(":")
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "simulated",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": host,
        "server.port": int(port),
    }
    assert {name: good.attributes.get(name) for name in wanted} == wanted
    assert good.attributes["gen_ai.usage.input_tokens"] > 0
    assert good.kind == _CLIENT
    bad = [call for call in calls if call.error]
    assert len(bad) == told.total_of(lambda one: one["error_classes"]["bad_request"]) > 0
    assert {(call.attributes["error.type"], call.attributes["http.response.status_code"]) for call in bad} == {
        ("bad_request", 400)
    }
    assert SECRET not in "".join(str(request) for _, request in told.seen.requests)


def test_metrics_over_otlp_agree_with_the_report(told):
    seen, points = told.seen, told.seen.points
    assert seen.total("evalmesh.scores", SCORER, state="scored") == told.total_of(
        lambda one: one["metrics"][0]["n_scored"]
    )
    errored = told.total_of(lambda one: one["metrics"][0]["n_errored"])
    assert seen.total("evalmesh.scores", SCORER, state="errored") == errored
    assert {
        point.attributes["error.type"]: point.value
        for point in points
        if point.name == "evalmesh.completions" and "error.type" in point.attributes
    } == {"bad_request": errored}
    assert seen.total("evalmesh.completions", RUNNER) == len(SETS) * ROWS
    assert seen.total("gen_ai.client.operation.duration", RUNNER) == len(SETS) * ROWS
    for kind in ("input", "output"):
        tokens = [
            point.value
            for point in points
            if point.name == "gen_ai.client.token.usage" and point.attributes["gen_ai.token.type"] == kind
        ]
        assert sum(tokens) == told.total_of(lambda one, kind=kind: one["usage"][f"{kind}_tokens"])
    for step in ("generate", "score"):
        assert seen.total("evalmesh.steps", step=step) == len(SETS)
        assert seen.total("evalmesh.step.samples", step=step) == len(SETS) * ROWS
    assert seen.total("evalmesh.work.items", outcome="done", queue="plan") == 1
    # Names of runs and samples would make series without end.
    values = {str(value) for point in points for value in point.attributes.values()}
    assert not {value for value in values if told.report["run"]["id"] in value or "default/" in value}


def test_what_was_said_is_sent_where_the_operator_asks_for_it(tmp_path, model, questions):
    with collector() as seen:
        only_traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{seen.url}/v1/traces", CONTENT: "true"}
        done = evaluate(tmp_path, model, questions, **only_traces)
        assert done.returncode == 0, done.stderr
        call = next(span for span in seen.spans if span.name == "chat simulated" and not span.error)
        assert {path for path, _ in seen.requests} == {"/v1/traces"}
    (asked,) = [one for one in json.loads(call.attributes["gen_ai.input.messages"]) if one["role"] == "user"]
    assert SECRET in asked["parts"][0]["content"]
    (answer,) = json.loads(call.attributes["gen_ai.output.messages"])
    assert answer["role"] == "assistant"
    assert answer["parts"][0]["content"]


def test_a_collector_may_speak_grpc(tmp_path, model, questions):
    with grpc_collector() as seen:
        by_grpc = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=abc"}
        done = evaluate(tmp_path, model, questions, OTEL_EXPORTER_OTLP_ENDPOINT=seen.url, **by_grpc)
    assert (done.returncode, done.quiet, "telemetry" in done.stderr) == (0, True, False), done.stderr
    assert {path for path, _ in seen.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert {headers["x-key"] for headers in seen.headers} == {"abc"}
    assert len([span for span in seen.spans if span.name == "chat simulated"]) == len(SETS) * ROWS
    assert seen.total("evalmesh.completions", "evalmesh-model-runner") == len(SETS) * ROWS


def test_a_load_test_is_one_trace_with_its_levels(tmp_path, model):
    levels = ("--parallel", "1", "2", "--number", "4", "6", "--max-tokens", "4")
    load = ("--dataset", "random", "--min-prompt-length", "8", "--max-prompt-length", "8", *levels)
    with collector() as seen:
        done = evalmesh(
            "perf", "--url", f"{model.url}/chat/completions", "--model", "m", *load,
            cwd=tmp_path, within_s=120, OTEL_EXPORTER_OTLP_ENDPOINT=seen.url,
        )  # fmt: skip
        assert (done.returncode, done.quiet) == (3, True), done.stderr  # some requests are refused
        spans = seen.spans
    assert len({span.trace_id for span in spans}) == 1
    found = sorted((span for span in spans if span.name == "level"), key=lambda span: span.start_ns)
    assert [span.attributes["evalmesh.parallel"] for span in found] == [1, 2]
    assert [(span.service, span.name) for span in way_up(found[0], spans)] == [
        ("evalmesh-load-generator", "level"),
        ("evalmesh-load-generator", "conduct"),
        ("evalmesh-gateway", "evalmesh.v1.LoadTestService/CreateLoadTest"),
        ("evalmesh", "evalmesh perf"),
    ]
    assert {span.service for span in spans if span.name == "report"} == {"evalmesh-report-aggregator"}
    (figures,) = tmp_path.glob("outputs/*/perf.json")
    told = json.loads(figures.read_text())["levels"]
    answered, failed = sum(one["ok"] for one in told), sum(sum(one["errors"].values()) for one in told)
    assert seen.total("evalmesh.load.levels") == 2
    assert seen.total("evalmesh.load.requests", error__type="") == answered
    assert seen.total("evalmesh.load.requests", error__type="http_400") == failed > 0
    assert answered + failed == 10


@pytest.mark.parametrize("status", [None, 503, 400], ids=["away", "busy", "refuses"])
def test_a_collector_that_takes_nothing_costs_one_warning(tmp_path, model, questions, status):
    with collector(status or 200) as seen:
        url = seen.url if status else "http://127.0.0.1:9"
        done = evaluate(tmp_path, model, questions, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="50")
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    told = [line for line in done.stderr.splitlines() if "telemetry" in line]
    assert len(told) == 1
    assert told[0].startswith(f"warning: telemetry: not all arrives at {url}; ")
    assert report_in(tmp_path / "outputs")["run"]["state"] == "SUCCEEDED"


def scrape(port, token):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def ports_told(work_dir, caplog, *, processes):
    """Where the metrics are, which are on free ports, from the services' logs."""
    if not processes:
        return [record.metrics_port for record in caplog.records if hasattr(record, "metrics_port")]
    lines = [
        json.loads(line)
        for path in (work_dir / ".evalmesh" / "logs").glob("*.log")
        for line in path.read_text().splitlines()
        if '"metrics_port"' in line
    ]
    return [line["metrics_port"] for line in lines]


@pytest.mark.parametrize("processes", [False, True], ids=["one process", "processes"])
async def test_metrics_on_every_service_agree_with_the_report(tmp_path, model, questions, processes, caplog):
    caplog.set_level(logging.INFO)
    model.reset()
    settings = LocalSettings(tmp_path, processes=processes, metrics_address="127.0.0.1:0")
    spec = RunSpec(
        ModelSpec("simulated", url=model.url), (BenchmarkSpec("general_mcq", local_path=str(questions)),), shard_size=4
    )
    async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
        ports = ports_told(tmp_path, caplog, processes=processes)
        assert len(ports) == (6 if processes else 1)
        run = await run_to_end(client, spec)
        assert run.state is RunState.SUCCEEDED
        (benchmark,) = (await client.report(run))["benchmarks"]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await asyncio.to_thread(scrape, ports[0], "not-the-token")
        samples = [one for port in ports for one in await asyncio.to_thread(scrape, port, platform.token)]
    found = Counter()
    for one in samples:
        if one.name in {"evalmesh_scores_total", "evalmesh_completions_total"}:
            found[one.name, one.labels["service"], one.labels.get("state", one.labels.get("error_type"))] += one.value
    metric = benchmark["metrics"][0]
    assert found == {
        ("evalmesh_scores_total", "scorer", "scored"): metric["n_scored"],
        ("evalmesh_scores_total", "scorer", "errored"): metric["n_errored"],
        ("evalmesh_completions_total", "model_runner", ""): metric["n_scored"],
        **{
            ("evalmesh_completions_total", "model_runner", kind): count
            for kind, count in benchmark["error_classes"].items()
        },
    }
    depth = {one.labels["queue"]: one.value for one in samples if one.name == "evalmesh_queue_depth"}
    assert {"plan", "generate", "score", "reduce"} <= set(depth)
    assert not any(run.id in value for one in samples for value in one.labels.values())
