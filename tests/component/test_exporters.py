"""Every sink against its offline or local mode, or a receiver of our own that decodes what arrives."""

import gzip
import importlib.util
import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from tests.unit.report.perf_builders import make_failures, make_level, make_server, make_test

from evalmesh.adapters.exporters import SINKS, export
from evalmesh.adapters.exporters.figures import levels_of, parameters_of, summary_of
from evalmesh.adapters.exporters.remote_write import snappy_stored
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, Unauthenticated, Unavailable
from evalmesh.report_aggregator.load_tests.perf_json import build_perf, encode_perf

SECRET = "sk-this-must-not-be-seen"
RUN = """
import faulthandler, json, sys
from pathlib import Path
faulthandler.dump_traceback_later(80, exit=True)  # a package that hangs says where
from evalmesh.adapters.exporters import export
folder = Path(sys.argv[1])
print(export(sys.argv[2], json.loads((folder / "perf.json").read_bytes()), folder, json.loads(sys.argv[3])))
"""


@pytest.fixture
def folder(tmp_path):
    levels = [make_level(0, 1), make_failures(make_level(1, 8), http_429=3)]
    levels[1]["server"] = make_server()
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "perf.json").write_bytes(encode_perf(build_perf(make_test(), levels, 1_772_000_000.0)))
    (folder / "perf_report.html").write_text("<!doctype html><p>the report</p>")
    (tmp_path / "home").mkdir()
    return folder


def perf_of(folder):
    return json.loads((folder / "perf.json").read_bytes())


def environment(folder, **variables):
    """Ours, with an empty home: no login of whoever runs the tests."""
    home = folder.parent / "home"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "SWANLAB", "CLEARML"))}
    caches = {"XDG_CACHE_HOME": f"{home}/cache", "XDG_DATA_HOME": f"{home}/data", "XDG_CONFIG_HOME": f"{home}/config"}
    return {**kept, "HOME": str(home), **caches, **variables}


def exported(sink, folder, options=None, **variables):
    """Exports in a process of its own, whose command line holds a key; returns what was said."""
    command = [sys.executable, "-c", RUN, str(folder), sink, json.dumps(options or {}), "--api-key", SECRET]
    done = subprocess.run(
        command,
        cwd=folder.parent,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in folder.parent.rglob("*"):
        if path.is_file():
            data = zip_text(path) if path.suffix == ".zip" else path.read_bytes()
            assert SECRET.encode() not in data, path
    return done.stdout.strip().splitlines()[-1]


def zip_text(path):
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def script(code, *arguments, **variables):
    """What another process finds out, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Receiver:
    """An HTTP server that keeps what is posted to it."""

    def __init__(self, status=200):
        self.bodies, self.headers, self.paths = [], [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                receiver.headers.append(dict(self.headers))
                receiver.paths.append(self.path)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"" if status == 200 else b"out of order")

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class TestFigures:
    def test_levels_have_stable_names(self, folder):
        perf = perf_of(folder)
        first, second = levels_of(perf)
        assert (first.step, first.label, second.label) == (0, "parallel 1", "parallel 8")
        assert first.figures["ttft_ms/p99"] == perf["levels"][0]["ttft_ms"]["p99"]
        assert first.figures["request_rate"] == perf["levels"][0]["request_rate"]
        assert second.figures["errors/http_429"] == 3
        assert second.figures["server/tokens_per_joule"] == 3.21
        assert "server/preemptions" not in second.figures, "unknown"
        assert first.figures["client_limited"] == 0
        assert all(isinstance(value, float) for value in first.figures.values())

    def test_what_was_asked_for_becomes_parameters(self, folder):
        parameters = parameters_of(perf_of(folder))
        assert parameters["spec/target/model"] == "org/qwen-plus"
        assert parameters["spec/levels/1/parallel"] == 8
        assert parameters["spec/target/key_ref"] == "env:API_KEY"
        assert all(len(str(value)) <= 500 for value in parameters.values())

    def test_the_summary_names_the_best(self, folder):
        assert summary_of(perf_of(folder))["best/throughput"] > 0

    def test_a_load_test_without_levels_has_figures_too(self):
        perf = build_perf(make_test(), [], 1_772_000_000.0)
        assert levels_of(perf) == []
        assert summary_of(perf) == {"client_limited": 0.0, "levels": 0.0}


WANDB_RECORDS = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2 as pb

def stored(data):
    # A header of 7 bytes; blocks of 32 KiB, in them pieces: checksum, length, type (1 whole, 2 first, 4 last).
    at, whole = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""

name = lambda item: item.key or "/".join(item.nested_key)
values = lambda items: {name(item): json.loads(item.value_json) for item in items}
found = {"history": [], "config": {}, "summary": {}, "run": {}, "files": []}
for data in stored(open(sys.argv[1], "rb").read()):
    record = pb.Record.FromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "history":
        found["history"].append(values(record.history.item))
    elif kind == "run":
        found["run"] = {"project": record.run.project, "name": record.run.display_name}
        found["config"] |= values(record.run.config.update)
    elif kind == "config":
        found["config"] |= values(record.config.update)
    elif kind == "summary":
        found["summary"] |= values(record.summary.update)
    elif kind == "artifact":
        found["files"] += [entry.path for entry in record.artifact.manifest.contents]
print(json.dumps(found))
"""


def test_wandb_offline(folder):
    said = exported("wandb", folder, {"project": "serving", "name": "night"}, WANDB_MODE="offline")
    assert "wandb sync" in said
    (store,) = folder.glob("wandb/offline-run-*/*.wandb")
    records = script(WANDB_RECORDS, str(store))
    assert records["run"] == {"project": "serving", "name": "night"}
    assert records["config"]["spec/target/model"] == "org/qwen-plus"
    levels = perf_of(folder)["levels"]
    by_step = {row["_step"]: row for row in records["history"]}
    assert [by_step[n]["level/ttft_ms/p99"] for n in (0, 1)] == [level["ttft_ms"]["p99"] for level in levels]
    assert by_step[1]["level/errors/http_429"] == 3
    assert records["summary"]["best/throughput"] > 0
    assert {"perf.json", "perf_report.html"} <= set(records["files"])


MLFLOW_RUN = """
import json, sys
from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
(run,) = client.search_runs([client.get_experiment_by_name("serving").experiment_id])
history = client.get_metric_history(run.info.run_id, "level/ttft_ms/p99")
print(json.dumps({
    "name": run.info.run_name,
    "status": run.info.status,
    "params": run.data.params,
    "metrics": run.data.metrics,
    "history": [[one.step, one.value] for one in history],
    "files": [one.path for one in client.list_artifacts(run.info.run_id)],
}))
"""


def test_mlflow_in_a_store_of_files(folder):
    said = exported("mlflow", folder, {"project": "serving", "name": "night"})
    assert "experiment serving, run night" in said
    found = script(MLFLOW_RUN, (folder.parent / "mlruns").as_uri(), MLFLOW_ALLOW_FILE_STORE="true")
    levels = perf_of(folder)["levels"]
    assert (found["name"], found["status"]) == ("night", "FINISHED")
    assert found["history"] == [[n, level["ttft_ms"]["p99"]] for n, level in enumerate(levels)]
    assert found["params"]["spec/target/model"] == "org/qwen-plus"
    assert found["metrics"]["best/throughput"] > 0
    assert sorted(found["files"]) == ["perf.json", "perf_report.html"]


def test_clearml_offline(folder):
    said = exported("clearml", folder, {"project": "serving", "name": "night", "mode": "offline"})
    archive = Path(said.partition(".zip")[0] + ".zip")
    assert archive.is_relative_to(folder.parent / "home")
    with zipfile.ZipFile(archive) as session:
        task = json.loads(session.read("task.json"))
        events = [json.loads(line) for line in session.read("metrics.jsonl").splitlines()]
    scalars = [one for event in events for one in (event if isinstance(event, list) else [event])]
    wanted = [one for one in scalars if (one.get("metric"), one.get("variant")) == ("level/ttft_ms", "p99")]
    p99 = {one["iter"]: one["value"] for one in wanted}
    assert p99 == {n: level["ttft_ms"]["p99"] for n, level in enumerate(perf_of(folder)["levels"])}
    assert task["name"].endswith("night")
    assert task["hyperparams"]["load test"]["spec/target/model"]["value"] == "org/qwen-plus"
    assert {one["key"] for one in task["execution"]["artifacts"]} == {"perf.json", "perf_report.html"}
    assert not task.get("script", {}).get("diff"), "uncommitted changes of whoever runs it are nobody's business"


def test_otlp_to_a_receiver(folder):
    with Receiver() as receiver:
        said = exported("otlp", folder, {"name": "night"}, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert said.startswith(f"{receiver.url}/v1/metrics (")
    assert receiver.paths == ["/v1/metrics"]
    (resource,) = ExportMetricsServiceRequest.FromString(receiver.bodies[0]).resource_metrics
    about = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert about["service.name"] == "evalmesh"
    assert about["evalmesh.run"] == "night"
    metrics = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    ttft = metrics["evalmesh.level.ttft_ms"]
    assert ttft.unit == "ms"
    p99 = {}
    for point in ttft.gauge.data_points:
        attributes = {one.key: one.value.string_value or one.value.int_value for one in point.attributes}
        if attributes["statistic"] == "p99":
            p99[attributes["load"]] = point.as_double
            assert point.time_unix_nano > 1.7e18
    assert p99 == {level["label"]: level["ttft_ms"]["p99"] for level in perf_of(folder)["levels"]}
    (errors,) = metrics["evalmesh.level.errors"].gauge.data_points
    assert {one.key: one.value.string_value for one in errors.attributes}["class"] == "http_429"


def test_otlp_receiver_that_refuses(folder):
    with Receiver(status=400) as receiver, pytest.raises(Unavailable, match="did not take the figures"):
        export("otlp", perf_of(folder), folder, {"url": receiver.url.replace("http://", "http://ann:hunter2@")})


def unsnappied(data):
    """Snappy's block format, literals alone: an independent reading of its description."""
    length, at, shift = 0, 0, 0
    while True:
        length |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            break
    out = bytearray()
    while at < len(data):
        tag = data[at]
        assert tag & 3 == 0, "a literal"
        extra = max(0, (tag >> 2) - 59)
        size = int.from_bytes(data[at + 1 : at + 1 + extra], "little") + 1 if extra else (tag >> 2) + 1
        out += data[at + 1 + extra : at + 1 + extra + size]
        at += 1 + extra + size
    assert len(out) == length
    return bytes(out)


def write_request_class():
    """The public definition of `prometheus.WriteRequest`, as far as it is used."""
    field = descriptor_pb2.FieldDescriptorProto
    package = "remote_write_test"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    wanted = {
        "Label": [("name", 1, field.TYPE_STRING, ""), ("value", 2, field.TYPE_STRING, "")],
        "Sample": [("value", 1, field.TYPE_DOUBLE, ""), ("timestamp", 2, field.TYPE_INT64, "")],
        "TimeSeries": [("labels", 1, field.TYPE_MESSAGE, "Label"), ("samples", 2, field.TYPE_MESSAGE, "Sample")],
        "WriteRequest": [("timeseries", 1, field.TYPE_MESSAGE, "TimeSeries")],
    }
    for name, fields in wanted.items():
        message = file.message_type.add(name=name)
        for title, number, kind, of in fields:
            one = message.field.add(name=title, number=number, type=kind, label=3 if of else 1)
            if of:
                one.type_name = f".{package}.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.WriteRequest"))


def test_prometheus_remote_write(folder, monkeypatch):
    monkeypatch.setenv("EVALMESH_REMOTE_WRITE_TOKEN", "hunter2")
    with Receiver() as receiver:
        options = {"url": f"{receiver.url}/api/v1/write", "project": "serving"}
        said = export("prometheus", perf_of(folder), folder, options)
    assert said.startswith(f"{receiver.url}/api/v1/write (")
    headers = {name.lower(): value for name, value in receiver.headers[0].items()}
    assert headers["content-encoding"] == "snappy"
    assert headers["x-prometheus-remote-write-version"] == "0.1.0"
    assert headers["authorization"] == "Bearer hunter2"
    request = write_request_class().FromString(unsnappied(receiver.bodies[0]))
    found = {}
    for series in request.timeseries:
        labels = [(one.name, one.value) for one in series.labels]
        assert labels == sorted(labels)
        (sample,) = series.samples
        found[tuple(labels)] = sample
    assert len(found) == len(request.timeseries), "each series once"
    p99 = {
        dict(labels)["load"]: sample.value
        for labels, sample in found.items()
        if dict(labels)["__name__"] == "evalmesh_level_ttft_ms" and dict(labels)["statistic"] == "p99"
    }
    levels = perf_of(folder)["levels"]
    assert p99 == {level["label"]: level["ttft_ms"]["p99"] for level in levels}
    assert {dict(labels)["job"] for labels in found} == {"serving"}
    assert all(1.7e12 < sample.timestamp < 1e13 for sample in found.values())


@pytest.mark.parametrize("size", [0, 1, 59, 60, 61, 65_535, 65_536, 65_537, 200_000])
def test_stored_snappy_of_any_size(size):
    data = bytes(n % 251 for n in range(size))
    assert unsnappied(snappy_stored(data)) == data


@pytest.mark.parametrize(("status", "error"), [(400, Unavailable), (401, Unauthenticated)])
def test_prometheus_receiver_that_refuses(folder, status, error):
    with Receiver(status=status) as receiver, pytest.raises(error, match=f"status {status}: out of order") as told:
        export("prometheus", perf_of(folder), folder, {"url": receiver.url.replace("http://", "http://ann:hunter2@")})
    assert "hunter2" not in told.value.message
    assert receiver.headers[0]["Authorization"].startswith("Basic ")


def test_prometheus_that_is_not_there(folder):
    with pytest.raises(Unavailable, match="cannot be reached"):
        export("prometheus", perf_of(folder), folder, {"url": "http://127.0.0.1:9/write"})
    with pytest.raises(InvalidInput, match="remote write receiver"):
        export("prometheus", perf_of(folder), folder, {})


def test_swanlab_in_an_environment_of_its_own(folder):
    python = os.environ.get("EVALMESH_SWANLAB_PYTHON")
    if not python:
        pytest.skip("set EVALMESH_SWANLAB_PYTHON to an interpreter with swanlab: it needs an older protobuf than ours")
    said = exported("swanlab", folder, {"project": "serving", "mode": "offline", "swanlab_python": python})
    assert "swanlab watch" in said
    (run,) = folder.glob("swanlog/run-*")
    assert "org/qwen-plus" in (run / "files/config.yaml").read_text()
    (store,) = run.glob("*.swanlab")
    for level in perf_of(folder)["levels"]:
        assert struct.pack("<d", level["ttft_ms"]["p99"]) in store.read_bytes()
    assert {"perf.json", "perf_report.html"} <= {path.name for path in (run / "files").iterdir()}


def test_a_sink_in_another_environment(folder):
    """What it is told goes through its standard input: a key among it is seen by nobody."""
    with Receiver() as receiver:
        said = exported("prometheus", folder, {"python": sys.executable, "prometheus_url": receiver.url})
        assert said.startswith(receiver.url)
        assert len(receiver.bodies) == 1


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_another_environment_that_does_not_work(folder, python):
    with pytest.raises((FailedPrecondition, Unavailable), match=python):
        export("prometheus", perf_of(folder), folder, {"python": python, "url": "http://127.0.0.1:9/"})


def test_sinks_that_nobody_has(folder):
    with pytest.raises(InvalidInput, match="there is no 'tensorboard'"):
        export("tensorboard", perf_of(folder), folder, {})
    assert set(SINKS) >= {"wandb", "swanlab", "mlflow", "clearml", "otlp", "prometheus"}


@pytest.mark.parametrize("sink", ["wandb", "swanlab", "mlflow", "clearml", "otlp"])
def test_a_missing_package_is_told_with_the_way_to_it(folder, sink, monkeypatch):
    for name in ("wandb", "swanlab", "mlflow", "clearml", "opentelemetry.exporter.otlp.proto.http.metric_exporter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(FailedPrecondition, match="not installed") as told:
        export(sink, perf_of(folder), folder, {"mode": "offline"})
    assert f"evalmesh[{sink}]" in told.value.message or "environment of its own" in told.value.message


@pytest.mark.parametrize("sink", ["wandb", "clearml"])
def test_a_missing_key_is_told_and_nobody_is_asked_for_it(folder, sink):
    done = subprocess.run(
        [sys.executable, "-m", "evalmesh.adapters.exporters", sink, str(folder / "perf.json")],
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{sink}: there ")
    assert "offline" in done.stderr


def test_what_a_package_raises_is_told_without_the_key(folder, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("bad key wandb-key-1234")

    monkeypatch.setitem(sys.modules, "wandb", Broken())
    with pytest.raises(Unavailable, match=r"its package failed: RuntimeError: bad key \*\*\*"):
        export("wandb", perf_of(folder), folder, {"api_key": "wandb-key-1234"})


class TestTheCommand:
    def run(self, *arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "evalmesh.adapters.exporters", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    def test_it_exports(self, folder):
        with Receiver() as receiver:
            done = self.run("prometheus", str(folder / "perf.json"), f"url={receiver.url}")
        assert (done.returncode, done.stderr) == (0, "")
        assert receiver.url in done.stdout

    @pytest.mark.parametrize("words", [(), ("wandb",), ("wandb", "nowhere.json"), ("otlp", "perf.json", "url")])
    def test_it_explains_itself(self, folder, words):
        done = self.run(*words, cwd=folder)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1

    def test_it_takes_no_key_as_an_argument(self, folder):
        done = self.run("wandb", str(folder / "perf.json"), f"api_key={SECRET}")
        assert done.returncode == 2
        assert SECRET not in done.stderr
        assert "the sink's variable" in done.stderr

    def test_it_needs_nothing_of_ours_but_its_errors(self):
        """An environment with evalmesh and none of its dependencies can run it."""
        code = "import sys; import evalmesh.adapters.exporters.__main__; print(sorted(sys.modules))"
        done = subprocess.run(
            [sys.executable, "-S", "-c", code],
            env={"PYTHONPATH": str(Path(importlib.util.find_spec("evalmesh").origin).parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "evalmesh.adapters.exporters.exporting" in done.stdout
