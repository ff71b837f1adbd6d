"""Options that a project and a user set once."""

import json

import pytest

from evalmesh.cli.__main__ import main
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.flags import parse
from evalmesh.cli.perf.config import PerfConfig

PROJECT = """
all: {work_dir: results, api_key: env:TEAM_KEY}
eval: {temperature: 0.3, limit: 3}
perf: {parallel: [2, 4]}
"""
HOME = """
all: {api_key: env:MY_KEY}
eval: {limit: 9, seed: 7}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with options, and a user with others; commands are typed in a folder of the project."""
    for path, text in ((tmp_path / "project/evalmesh.yaml", PROJECT), (tmp_path / "home/evalmesh/config.yaml", HOME)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "project/deep/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project/deep/below")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return tmp_path / "project"


def test_flags_win_over_the_project_and_the_project_over_the_user(project):
    config = TaskConfig.load(None, {"temperature": "0.9"})
    assert (config.temperature, config.limit, config.seed) == (0.9, 3, 7)
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == "env:TEAM_KEY"
    assert config.work_dir == str(project / "results")
    assert PerfConfig.load(None, {}).parallel == [2, 4]


def test_a_file_that_is_named_replaces_both(project, tmp_path):
    (tmp_path / "run.yaml").write_text("model: m\n")
    config = TaskConfig.load(str(tmp_path / "run.yaml"), {})
    assert (config.model, config.temperature, config.limit, config.work_dir) == ("m", None, None, "./outputs")


def test_python_callers_get_what_they_wrote(project):
    assert TaskConfig(model="m").limit is None


def test_every_command_finds_the_work_directory(project, capsys):
    assert parse(["runs", "list"]).work_dir == str(project / "results")
    assert parse(["runs", "list", "--work-dir", "other"]).work_dir == "other"
    assert "work_dir" not in vars(parse(["eval", "--demo"]))


def test_where_each_value_comes_from_is_shown(project, capsys):
    assert main(["config", "show", "--format", "json"]) == 0
    origins = {row["key"]: row["origin"] for row in json.loads(capsys.readouterr().out)}
    here, home = str(project / "evalmesh.yaml"), str(project.parent / "home/evalmesh/config.yaml")
    assert origins == {"work_dir": here, "api_key": here, "temperature": here, "limit": here, "seed": home}
    assert main(["config", "show", "perf", "--all", "--format", "json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["parallel"] == {"key": "parallel", "value": [2, 4], "origin": here}
    assert rows["port"]["origin"] == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evil: {limit: 1}", "'evil' is no section"),
        ("eval: 3", "'eval' is no section"),
        ("eval: {limt: 1}", "limt: there is no such key"),
        ("eval: [", "no valid YAML"),
    ],
)
def test_what_a_file_says_wrongly_is_2_with_a_sentence(project, text, said, capsys):
    (project / "evalmesh.yaml").write_text(text)
    assert main(["eval", "--model", "m", "--api-url", "http://h/v1", "--datasets", "gsm8k", "--dry-run"]) == 2
    assert said in capsys.readouterr().err


def test_a_repository_ends_the_search(project, monkeypatch):
    (project / "deep/.git").mkdir()
    assert TaskConfig.load(None, {}).limit == 9
