"""No key leaves but to the hosts that were declared with it, and none lies where others find it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from tests.kit.cli import evalmesh, family, report_in, running, until
from tests.kit.load_trouble import free_port
from tests.kit.nats import running_server
from tests.kit.platform import write_questions
from tests.kit.services import service
from tests.kit.simulator import simulator

from evalmesh.domain.errors import EvalmeshError, PermissionDenied
from evalmesh.domain.load_test import Lengths, LoadLevel, LoadTarget, LoadTestSpec, PromptSpec
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.sdk import AsyncClient
from evalmesh.v1 import (
    benchmarks_pb2,
    benchmarks_pb2_grpc,
    load_generators_pb2,
    load_generators_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
)
from evalmesh.wire.load_tests.specs import load_spec_to_proto
from evalmesh.wire.runs.specs import benchmark_spec_to_proto

KEY = "sk-test-0123456789abcdefSECRET"


class Listener:
    """An endpoint of somebody who collects keys."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.heard.append(f"{self.path} {self.headers}")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"data": [], "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}')

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    @contextmanager
    def listening(self) -> Iterator["Listener"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def thief():
    with Listener().listening() as listener:
        yield listener


def load_test(url, **target):
    prompts = PromptSpec("random", input_tokens=Lengths("fixed", 8, 8), output_tokens=Lengths("fixed", 8, 8))
    return LoadTestSpec(LoadTarget(url, "m", **target), prompts, levels=(LoadLevel(parallel=1, number=1),))


async def test_nobody_who_calls_a_platform_chooses_where_its_keys_go(tmp_path, thief):
    declared = f"team=http://127.0.0.1:{free_port()}/v1,key=env:TEAM_KEY"
    words = ("up", "--address", "127.0.0.1:0", "--work-dir", "w", "--connection", declared)
    with running(*words, cwd=tmp_path, TEAM_KEY=KEY, OTHER_KEY=KEY) as up:
        await asyncio.to_thread(until, lambda: "evalmesh is up at" in up.stdout)
        async with AsyncClient(up.stdout.partition("evalmesh is up at ")[2].partition(";")[0]) as client:
            for stolen in (
                {"key_ref": "env:TEAM_KEY"},
                {"key_ref": "env:OTHER_KEY"},
                {"key_ref": "env:HOME"},
                {"headers": {"X-Any": "env:TEAM_KEY"}},
                {"connection": "team"},
            ):
                model = ModelSpec("m", url=thief.url, **stolen)
                with pytest.raises(PermissionDenied):
                    await client.describe_model(model)
                with pytest.raises(PermissionDenied):
                    await client.create_run(RunSpec(model, (BenchmarkSpec("starter_mcq"),)))
                with pytest.raises(PermissionDenied):
                    await client.create_load_test(load_test(f"{thief.url}/chat/completions", **stolen))
    assert thief.heard == []


def test_a_key_that_up_declares_is_used_by_its_name_and_by_its_connection(tmp_path):
    with simulator("--api-key", KEY) as model:
        words = (
            "up",
            "--address",
            "127.0.0.1:0",
            "--work-dir",
            "w",
            "--connection",
            f"sim={model.url},key=env:SIM_KEY",
        )
        with running(*words, cwd=tmp_path, SIM_KEY=KEY) as up:
            until(lambda: "evalmesh is up at" in up.stdout)
            where = up.stdout.partition("evalmesh is up at ")[2].partition(";")[0]
            asked = ("eval", "--model", "m", "--datasets", "starter_mcq", "--limit", "2", "--server", where)
            done = evalmesh(*asked, "--api-url", model.url, "--api-key", "env:SIM_KEY", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            refused = evalmesh(*asked, "--api-url", model.url, "--api-key", "env:OTHER", cwd=tmp_path)
            assert (refused.returncode, refused.quiet) == (5, True)
            assert "--connection" in refused.stderr


@pytest.mark.parametrize("flags", [[], ["--processes"]], ids=["one process", "processes"])
def test_a_header_that_may_hold_a_key_arrives_and_is_kept_nowhere(tmp_path, thief, flags):
    secret = "a-word-nobody-would-take-for-a-key"
    headers = ("--header", f"X-Team={secret}", "--header", f"Cookie: s={KEY}", "--headers", "X-Org=a")
    of_eval = ("eval", "--api-url", thief.url, "--datasets", "starter_mcq", "--limit", "1", *flags)
    of_eval += ("--generation-config", "retries=0")
    of_perf = ("perf", "--url", f"{thief.url}/chat/completions", "--prompt", "x", "--number", "1")
    for words in (of_eval, of_perf) if not flags else (of_eval,):
        thief.heard.clear()
        evalmesh(*words, "--model", "m", *headers, cwd=tmp_path)
        assert any(f"X-Team: {secret}" in one and KEY in one and "X-Org: a" in one for one in thief.heard), words
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "run.yaml" for path in kept)
    held = [path for path in kept if secret.encode() in (found := path.read_bytes()) or KEY.encode() in found]
    assert held == []


@pytest.mark.parametrize("flags", [[], ["--processes"]], ids=["one process", "processes"])
def test_a_key_that_is_typed_is_in_no_environment(tmp_path, flags):
    questions = write_questions(tmp_path / "q.jsonl", 40)
    (tmp_path / "task.yaml").write_text(f"api_key: {KEY}\n")
    with simulator("--api-key", KEY, "--ttft", "400ms") as model:
        words = (
            *("eval", "--config", "task.yaml", "--model", "m", "--api-url", model.url, "--datasets", "general_mcq"),
            *("--dataset-args", f'{{"general_mcq": {{"local_path": "{questions}"}}}}', "--eval-batch-size", "1"),
        )
        with running(*words, *flags, cwd=tmp_path) as command:
            until(lambda: model.stats()["requests"] > 2, what="requests")
            for pid in family(command.process.pid):
                assert KEY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
                assert KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_an_interrupted_run_goes_on_with_its_key_and_with_no_other_address(tmp_path):
    questions = write_questions(tmp_path / "q.jsonl", 30)
    with simulator("--api-key", KEY, "--ttft", "100ms") as model:
        words = (
            *("eval", "--model", "m", "--api-url", model.url, "--datasets", "general_mcq", "--api-key", KEY),
            *("--dataset-args", f'{{"general_mcq": {{"local_path": "{questions}"}}}}', "--eval-batch-size", "2"),
        )
        with running(*words, cwd=tmp_path):
            until(lambda: model.stats()["requests"] > 4, what="requests")
        run = next(one.name for one in (tmp_path / "outputs").iterdir() if one.name != ".evalmesh")
        without = evalmesh("runs", "resume", f"outputs/{run}", cwd=tmp_path)
        assert (without.returncode, "export EVALMESH_API_KEY" in without.stderr) == (2, True)
        done = evalmesh("runs", "resume", f"outputs/{run}", "--api-key", KEY, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert report_in(tmp_path / "outputs")["benchmarks"][0]["metrics"][0]["n_scored"] == 30


# A service of a cluster


@pytest.fixture
def base(tmp_path):
    with running_server(tmp_path / "nats") as bus:
        yield {
            "EVALMESH_BUS_URL": bus.url,
            "EVALMESH_OBJECTS_URL": (tmp_path / "objects").as_uri(),
            "EVALMESH_EGRESS": "restricted",
        }


FORMS = ("127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0")


def describe(channel, url):
    asked = models_pb2.DescribeModelRequest(model=models_pb2.ModelSpec(model="m", engine="openai", url=url))
    try:
        models_pb2_grpc.ModelServiceStub(channel).DescribeModel(asked, timeout=20)
    except grpc.RpcError as error:
        return f"{error.code()} {error.details()}"
    return "answered"


def validate(channel, url, **target):
    spec = load_spec_to_proto(load_test(f"{url}/chat/completions", **target))
    asked = load_generators_pb2.ValidateLoadTestRequest(spec=spec)
    try:
        load_generators_pb2_grpc.LoadServiceStub(channel).ValidateLoadTest(asked, timeout=20)
    except grpc.RpcError as error:
        return f"{error.code()} {error.details()}"
    return "answered"


def alike(answers, ports):
    """Whether an open port and a closed one cannot be told apart."""
    plain = {answer.replace(str(port), "PORT") for answer, port in zip(answers, ports, strict=True)}
    return len(plain) == 1 and "answered" not in plain


@pytest.mark.parametrize("form", FORMS)
def test_a_runner_of_a_cluster_does_not_tell_open_ports_of_its_machine_from_closed_ones(base, thief, form):
    ports = (thief.port, free_port())
    with service("model_runner", base) as child, grpc.insecure_channel(child.address) as channel:
        assert alike([describe(channel, f"http://{form}:{port}/v1") for port in ports], ports)
    assert thief.heard == []


@pytest.mark.parametrize("transport", ["fast", "compatible"])
def test_nor_does_a_load_generator_over_either_transport(base, thief, transport):
    ports = (thief.port, free_port())
    with service("load_generator", base) as child, grpc.insecure_channel(child.address) as channel:
        for form in FORMS:
            said = [validate(channel, f"http://{form}:{port}/v1", transport=transport) for port in ports]
            assert alike(said, ports), said
    assert thief.heard == []


def test_a_connection_opens_what_it_declares(base, tmp_path, thief):
    file = tmp_path / "connections.yaml"
    file.write_text(f"- {{name: here, url: 'http://127.0.0.1:{thief.port}/v1', key_ref: 'env:HERE_KEY'}}\n")
    settings = {**base, "EVALMESH_CONNECTIONS_FILE": str(file), "HERE_KEY": KEY}
    with service("model_runner", settings) as child, grpc.insecure_channel(child.address) as channel:
        stub = models_pb2_grpc.ModelServiceStub(channel)
        stub.DescribeModel(models_pb2.DescribeModelRequest(model=models_pb2.ModelSpec(model="m", connection="here")))
        assert f"Bearer {KEY}" in thief.heard[0]
        assert "may not be asked" in describe(channel, f"http://127.0.0.1:{free_port()}/v1")


@pytest.mark.parametrize("query", ["api_key=x", "key=x", "API-KEY=x", "sig=x", "X-Amz-Signature=x", "access%5Ftoken=x"])
async def test_a_key_in_the_address_is_refused_with_the_way_out(tmp_path, query):
    async with AsyncClient("127.0.0.1:1") as client:
        for spec in (
            client.create_run(RunSpec(ModelSpec("m", url=f"http://h/v1?{query}"), (BenchmarkSpec("starter_mcq"),))),
            client.create_load_test(load_test(f"http://h/v1/chat/completions?{query}")),
        ):
            with pytest.raises(EvalmeshError, match="key_ref") as caught:
                await spec
            assert "=x" not in caught.value.message


def test_a_loader_of_a_cluster_reads_no_file_that_a_caller_thinks_of(base, tmp_path):
    (tmp_path / "own").mkdir()
    own = write_questions(tmp_path / "own" / "q.jsonl", 2)
    private = write_questions(tmp_path / "private.jsonl", 2)
    own.with_name("link.jsonl").symlink_to(private)
    settings = {**base, "EVALMESH_DATASET_LOADER_ROOTS": str(own.parent)}
    with service("dataset_loader", settings) as child, grpc.insecure_channel(child.address) as channel:
        stub = benchmarks_pb2_grpc.BenchmarkServiceStub(channel)

        def preview(path):
            spec = benchmark_spec_to_proto(BenchmarkSpec("general_mcq", local_path=str(path)))
            return stub.PreviewBenchmark(benchmarks_pb2.PreviewBenchmarkRequest(spec=spec), timeout=20)

        assert len(preview(own).samples) == 1
        said = set()
        for path in (private, own.with_name("link.jsonl"), tmp_path / "absent.jsonl"):
            with pytest.raises(grpc.RpcError) as refused:
                preview(path)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            said.add(refused.value.details().replace(str(path), "PATH"))
        assert len(said) == 1
