"""Labels of runs and load tests, as they are typed."""

import pytest

from evalmesh import TaskConfig
from evalmesh.cli.flags import parse
from evalmesh.cli.perf.config import PerfConfig

NOT_OPTIONS = {"command", "module", "parser", "action", "config", "server"}


def read(command, *words):
    said = {name: value for name, value in vars(parse([command, *words])).items() if name not in NOT_OPTIONS}
    return (TaskConfig if command == "eval" else PerfConfig).load(None, said).labels


@pytest.mark.parametrize("command", ["eval", "perf"])
@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (["--label", "team=x"], {"team": "x"}),
        (["--label", "team=x", "--label", "stage=b c"], {"team": "x", "stage": "b c"}),
        (["--labels", "team=x", "stage=y", "--label", "a=b=c"], {"team": "x", "stage": "y", "a": "b=c"}),
        (["--labels", "team=x,stage=y, or z"], {"team": "x", "stage": "y, or z"}),
        (["--labels", '{"team": "x"}', "--label", "n=1"], {"team": "x", "n": "1"}),
        # What looks like a number or a truth is the text that was typed.
        (["--label", "sha=1e5", "nightly=true", "version=1.10"], {"sha": "1e5", "nightly": "true", "version": "1.10"}),
    ],
)
def test_labels_are_the_text_that_was_typed(command, words, labels):
    assert read(command, *words) == labels


def test_those_of_a_file_and_of_flags_are_merged(tmp_path):
    (tmp_path / "run.yaml").write_text("labels: {team: a, kept: b}\n")
    assert TaskConfig.load(str(tmp_path / "run.yaml"), {"labels": ["team=x"]}).labels == {"team": "x", "kept": "b"}
