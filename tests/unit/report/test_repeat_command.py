"""The command that a report prints asks for the run it reports, as a shell and the command line understand it."""

import io
import json
import subprocess

import pytest
from tests.unit.report.builders import make_benchmark, make_run
from tests.unit.report.page import Page

from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.options import TaskOptions
from evalmesh.cli.flags import parse
from evalmesh.pages.runs.again import _OF_SCORE
from evalmesh.pages.runs.page import render_html

NOT_A_SETTING = {"command", "module", "parser", "config", "dataset"}
BASE = {"model": "org/m", "api_url": "http://h/v1", "datasets": ["gsm8k", "arc"]}
ODD = 'it\'s "$HOME" `id` \\ ; # 数 \U0001f600'


def shown(build, config):
    run = make_run(spec={"client_config": json.dumps(config)})
    page = Page(render_html(build(make_benchmark(), run=run)))
    assert "run.yaml" in page.shown
    return page.code


def pasted(command, monkeypatch):
    """What the command line makes of the command, pasted into a shell."""
    script = f"evalmesh() {{ printf '%s\\0' \"$@\"; printf '\\1'; case \"$3\" in -) cat;; esac; }}\n{command}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=10)
    words, _, file = done.stdout.partition("\1")
    monkeypatch.setattr("sys.stdin", io.StringIO(file))
    args = vars(parse(words.split("\0")[:-1]))
    said = {name: value for name, value in args.items() if name not in NOT_A_SETTING}
    if args["command"] == "score":
        return "score", TaskConfig(**said, datasets=[args["dataset"]])
    return "eval", TaskConfig.load(args.get("config"), said)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"dataset_args": {"gsm8k": {"subset_list": ["main"], "few_shot_num": 2}}, "dataset_dir": "/data/with blank"},
        {"limit": 0.5, "repeats": 3, "seed": -1, "stream": False, "ignore_errors": True, "name": "-dash"},
        {"name": ODD, "dataset_args": {"gsm8k": {"prompt_template": ODD + "{question}"}}},
        {"generation_config": {"temperature": 0.0, "stop_seqs": [ODD, "\n"], "extra_body": {"a": {"b": [1, None]}}}},
        {"api_key": "env:MY_KEY", "eval_batch_size": 8, "timeout": 30.0, "request_kind": "completion"},
        {"labels": {"team": "x", "odd": ODD}, "headers": {"X-Team": "env:MY_TEAM"}},
        {"name": "two\nlines \x1b[31m"},
        {"dataset_args": {"gsm8k": {"system_prompt": "long " * 2000}}},
        {"model": "m", "use_cache": "1m83", "rerun_review": True, "on_error": "zero", "dataset_hub": "local"},
    ],
)
def test_a_shell_makes_the_same_config_of_it(build, monkeypatch, more):
    config = BASE | more
    kind, found = pasted(shown(build, config), monkeypatch)
    assert kind == "eval"
    assert found == TaskConfig.load(None, config)


def test_what_is_plain_is_a_line_of_flags(build):
    command = shown(build, BASE | {"dataset_args": {"arc": {"subset_list": ["ARC-Easy"]}}, "dataset_dir": "/data"})
    assert "".join(command.split("\\\n")).split()[:8] == (
        ["evalmesh", "eval", "--model", "org/m", "--api-url", "http://h/v1", "--datasets", "gsm8k"]
    )
    assert """--dataset-args '{"arc": {"subset_list": ["ARC-Easy"]}}'""" in command
    assert "--dataset-dir /data" in command


def test_scored_completions_are_scored_again(build, monkeypatch):
    config = {"model": "6b_ft", "datasets": ["gsm8k"], "completions": "/my answers.jsonl", "dataset_dir": "/d"}
    kind, found = pasted(shown(build, config), monkeypatch)
    assert (kind, found) == ("score", TaskConfig.load(None, config))
    kind, found = pasted(shown(build, config | {"seed": 7}), monkeypatch)
    assert (kind, found) == ("eval", TaskConfig.load(None, config | {"seed": 7})), "score has no --seed"


def test_what_has_flags_is_known():
    """A key that gains or loses its flag must be known to the page."""
    assert set(TaskOptions.__annotations__) <= {action.dest for action in parse(["eval"]).parser._actions}
    score = {action.dest for action in parse(["score", "--dataset", "x", "--completions", "y"]).parser._actions}
    assert score >= _OF_SCORE - {"datasets"}
