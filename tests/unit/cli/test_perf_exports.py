"""Exporters: found out before any load is offered, repeated without any."""

import csv
import json
import socket

import pytest
from tests.unit.cli.test_perf_tables import perf
from tests.unit.report.perf_builders import make_level

from evalmesh.adapters.exporters.figures import record_of
from evalmesh.cli.__main__ import main
from evalmesh.cli.exports import again_command
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.exports import check_exports
from evalmesh.domain.errors import EvalmeshError, InvalidInput, Unavailable

BASE = {"url": "http://127.0.0.1:9/v1", "model": "m"}


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "perf.json").write_text(json.dumps(perf(make_level())))
    (tmp_path / "perf.yaml").write_text("# load test: lt-1\n")
    return tmp_path


def test_an_address_that_nobody_answers_is_told_before_any_load():
    port = closed_port()
    config = PerfConfig(**BASE, export="prometheus", export_args=f"url=http://127.0.0.1:{port}/api/v1/write")
    with pytest.raises(Unavailable, match=rf"export: prometheus cannot be used now: http://127.0.0.1:{port}/api"):
        check_exports(config)
    with pytest.raises(InvalidInput, match="option url must be"):
        check_exports(PerfConfig(**BASE, export="prometheus"))
    check_exports(PerfConfig(**BASE))


def test_a_key_that_is_missing_is_told_before_any_load(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "CLEARML_API_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for sink in ("wandb", "clearml"):
        with pytest.raises(EvalmeshError, match=rf"export: {sink} cannot be used now: (there (is|are) no|its package)"):
            check_exports(PerfConfig(**BASE, export=sink))


def test_several_sinks_may_be_one_word():
    assert PerfConfig(**BASE, export="otlp,mlflow").export == ["otlp", "mlflow"]


def test_a_load_test_is_exported_again_without_a_platform(folder, capsys):
    words = ["perf", "export", str(folder), "--export", "prometheus"]
    assert main([*words, "--export-args", f"url=http://127.0.0.1:{closed_port()}/w"]) == 5
    assert "cannot be reached" in capsys.readouterr().err
    assert main(words[:3]) == 2
    assert "export: missing" in capsys.readouterr().err
    assert main(["perf", "export", str(folder / "nowhere"), "--export", "prometheus", "--work-dir", str(folder)]) == 2


def test_a_load_test_is_exported_by_all_the_names_it_is_looked_at_by(folder, capsys):
    kept = folder / "work" / "20260225_061320_lt-1"
    kept.mkdir(parents=True)
    for name in ("perf.json", "perf.yaml"):
        (folder / name).rename(kept / name)
    for name in ("latest", "lt-1", kept.name):
        words = ["perf", "export", name, "--export", "csv", "--work-dir", str(kept.parent)]
        assert main(words) == 0, capsys.readouterr().err
        assert f"csv: {kept / 'figures.csv'}" in capsys.readouterr().out


def test_the_command_that_exports_again_holds_no_key(folder):
    command = again_command(folder, "wandb", {"project": "serving team", "api_key": "hidden"})
    assert command == f"evalmesh perf export {folder} --export wandb --export-args 'project=serving team'"


def test_a_load_test_is_a_table_of_figures(folder, capsys):
    assert main(["perf", "export", str(folder), "--export", "csv", "--name", "night"]) == 0
    assert f"csv: {folder / 'figures.csv'}" in capsys.readouterr().out
    with (folder / "figures.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {row["figure"]: row for row in rows if row["step"] == "0"}
    assert found["ttft_ms/p50"] == {
        "id": "lt-1",
        "name": "night",
        "model": "qwen",
        "step": "0",
        "label": "parallel 8",
        "figure": "ttft_ms/p50",
        "value": "50.0",
    }
    assert main(["perf", "export", str(folder), "--export", "csv", "--export-args", "path=/nowhere/x.csv"]) == 2
    assert "there is no folder '/nowhere'" in capsys.readouterr().err


def test_an_evaluation_is_a_record_of_scores():
    metric = {
        "name": "accuracy",
        "value": 0.75,
        "stderr": 0.1,
        "ci95": [0.5, 0.9],
        "n_scored": 20,
        "n_errored": 1,
        "n_unscored": 0,
    }
    report = {
        "evalmesh_version": "0.1.0",
        "run": {"id": "r-1", "display_name": "night", "state": "SUCCEEDED", "start_time": None, "labels": {}},
        "model": {"name": "qwen"},
        "config": {"datasets": ["mmlu"], "seed": 42},
        "benchmarks": [
            {
                "name": "mmlu",
                "metrics": [metric],
                "subsets": [{"name": "astronomy", "metrics": [{**metric, "value": 1.0, "stderr": None, "ci95": None}]}],
            }
        ],
    }
    record = record_of(report)
    assert (record.kind, record.id, record.model, record.steps) == ("evaluation", "r-1", "qwen", [])
    assert record.summary["mmlu/accuracy"] == 0.75
    assert record.summary["mmlu/accuracy/ci95_high"] == 0.9
    assert record.summary["mmlu/accuracy/n_errored"] == 1
    assert record.summary["mmlu/astronomy/accuracy"] == 1.0
    assert "mmlu/astronomy/accuracy/stderr" not in record.summary
    assert record.parameters["config/seed"] == 42
    assert record.files == ("report.html", "report.json")
