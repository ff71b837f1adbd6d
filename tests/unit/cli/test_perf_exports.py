"""Exporters: found out before any load is offered, repeated without any."""

import json
import socket

import pytest
from tests.unit.cli.test_perf_tables import perf
from tests.unit.report.perf_builders import make_level

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


def test_the_command_that_exports_again_holds_no_key(folder):
    command = again_command(folder, "wandb", {"project": "serving team", "api_key": "hidden"})
    assert command == f"evalmesh perf export {folder} --export wandb --export-args 'project=serving team'"
