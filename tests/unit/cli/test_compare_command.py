import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from tests.kit.compared import Answered, samples, write_run
from tests.unit.report.page import Page

import evalmesh
from evalmesh.cli.__main__ import main
from evalmesh.domain.errors import NotFound

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/compare.schema.json").read_text())
LOW = Answered(samples(*[1, 0] * 10))
HIGH = Answered(samples(*[1, 1] * 9, 0, 0))
HOSTILE = "<script>alert(1)</script>\x1b[31m [bold]|`x`"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two runs below ./outputs, which differ on ten samples: nine won, one lost."""
    monkeypatch.chdir(tmp_path)
    return [
        str(write_run(tmp_path / "outputs", "run-a", LOW, model="old")),
        str(write_run(tmp_path / "outputs", "run-b", HIGH, model="new")),
    ]


@pytest.fixture
def say(capsys):
    """Exit code, standard output and standard error of a command."""

    def run(*words):
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_table_fits_80_columns_and_has_the_verdict(folders, say, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = say("compare", *folders, "--flips", "3")
    assert code == 0
    assert max(map(len, out.splitlines()[3:-1])) <= 80
    words = " ".join(out.split())
    for expected in (
        "A old: run run-a",
        "B new: run run-b",
        "0.500 0.900 +0.400 9 1 0.021 better",
        "n 20",
        "sees 0.443",
    ):
        assert expected in words
    assert words.count("gsm8k main/") == 3


def test_runs_are_found_by_id_below_the_work_directory(folders, say):
    code, out, _ = say("compare", "run-a", "runs/run-b")
    assert (code, "better" in out) == (0, True)


def test_json_follows_its_schema_and_holds_every_flip(folders, say):
    code, out, _ = say("compare", *folders, folders[0], "--format", "json", "--gate", "better", "--all-metrics")
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    assert code == 8
    assert len([one for one in document["flips"] if one["run"] == 1]) == 10
    assert [one["outcome"] for one in document["gates"]] == ["met", "undecided"]
    assert [run["label"] for run in document["runs"]] == ["old run-a #1", "new", "old run-a #2"]


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (["gsm8k better"], 0),
        (["gsm8k>=0"], 0),
        (["gsm8k>=0.4"], 8),
        (["gsm8k>=0.4", "--gate-by", "estimate"], 0),
        (["gsm8k>=0.9"], 7),
        (["gsm8k>=0.4", "--gate", "gsm8k>=0.9"], 7),
        (["gsm8k>0.9"], 2),
        (["arc better"], 2),
    ],
)
def test_gates_decide_the_exit_code(folders, say, gate, code):
    assert say("compare", *folders, "--gate", *gate)[0] == code


def test_a_fall_is_worse_and_misses_the_gate(folders, say):
    code, out, _ = say("compare", *reversed(folders), "--gate", "not-worse")
    assert code == 7
    assert "worse" in out
    assert "missed  not-worse: gsm8k accuracy" in out


def test_csv_is_one_row_a_metric_or_one_a_flip(folders, say):
    (row,) = csv.DictReader(io.StringIO(say("compare", *folders, "--format", "csv")[1]))
    assert (row["run"], row["benchmark"], row["wins"], row["verdict"]) == ("new", "gsm8k", "9", "better")
    flips = list(csv.DictReader(io.StringIO(say("compare", *folders, "--format", "csv", "--flips")[1])))
    assert len(flips) == 10
    assert [flips[0][name] for name in ("sample_id", "value_a", "value_b", "answer_b")] == ["main/1", "0.0", "1.0", "1"]


def test_the_form_follows_the_name_of_the_file(folders, say, tmp_path):
    for name, begins in (("c.md", "- **A**"), ("c.html", "<!doctype html>"), ("c.json", "{"), ("c.txt", "A  old")):
        code, out, err = say("compare", *folders, "--output", str(tmp_path / "new" / name))
        assert (code, out) == (0, "")
        assert f"wrote {tmp_path / 'new' / name}" in err
        assert (tmp_path / "new" / name).read_text().startswith(begins)


def test_a_file_that_cannot_be_written_is_wrong_input(folders, say, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = say("compare", *folders, "--output", str(tmp_path / "file" / "c.md"))
    assert code == 2
    assert "output: " in err


def test_answers_are_text_wherever_they_are_shown(say, tmp_path):
    tricky = {"inputs": {"main/1": HOSTILE}, "answers": {"main/1": HOSTILE}}
    pair = [
        str(write_run(tmp_path, run, replace(one, **tricky), model=f"m {HOSTILE}"))
        for run, one in (("a", LOW), ("b", HIGH))
    ]
    for form in ("table", "markdown"):
        out = say("compare", *pair, "--flips", "--format", form)[1]
        assert "\x1b" not in out
        assert "[bold]" in out.replace("\\", "")
    assert "<script" not in out.replace("\\<", "")
    page = Page(say("compare", *pair, "--format", "html")[1])
    assert page.all("script") == [{}]
    assert "<script>alert(1)</script>" in page.shown


def test_what_cannot_be_compared_is_wrong_input(folders, say, tmp_path):
    code, _, err = say("compare", folders[0], str(write_run(tmp_path, "c", replace(HIGH, version=3))))
    assert code == 2
    assert "version 2 in A and 3 in B" in err
    assert say("compare", folders[0])[0] == 2
    assert say("compare", folders[0], "nobody")[0] == 2
    (Path(folders[1]) / "results/gsm8k.parquet").unlink()
    code, _, err = say("compare", *folders)
    assert code == 2
    assert "gsm8k.parquet" in err


def test_what_has_no_score_is_told_with_what_it_could_mean(say, tmp_path):
    pair = [
        str(write_run(tmp_path, "a", Answered(samples(1, 0, None, None)))),
        str(write_run(tmp_path, "b", Answered(samples(1, None, 1, None)))),
    ]
    out = say("compare", *pair)[1]
    assert "samples without a score, left out: 3 (1 in A alone, 1 in B alone, 1 in both)" in out
    assert "at worst and at best B - A would be -0.250 and +0.750" in out


def test_the_settings_that_differ_are_in_the_heading(say, tmp_path):
    pair = [
        str(write_run(tmp_path, "a", replace(LOW, spec={"few_shot_num": 4}), seed=1)),
        str(write_run(tmp_path, "b", HIGH, seed=2)),
    ]
    assert "differs: seed 1 -> 2; few_shot_num 4 -> -" in say("compare", *pair)[1]


def test_reports_stand_side_by_side(folders, say):
    code, out, _ = say("report", *folders)
    assert code == 0
    assert "old: run run-a" in out
    assert "0.5000 ± 0.1147 0.9000 ± 0.0688" in " ".join(out.split())
    (low, high) = json.loads(say("report", *folders, "--format", "json")[1])
    assert (low["run"]["id"], high["run"]["id"]) == ("run-a", "run-b")
    rows = list(csv.DictReader(io.StringIO(say("report", *folders, "--format", "csv")[1])))
    assert [(row["run"], row["metric"], row["value"]) for row in rows] == [
        ("old", "accuracy", "0.5"),
        ("new", "accuracy", "0.9"),
    ]


def test_the_best_is_bold_only_where_no_interval_reaches_it(say, tmp_path):
    values = {"low": [0] * 40, "mid": [1] * 18 + [0] * 22, "near": [1] * 20 + [0] * 20}
    places = {name: str(write_run(tmp_path, name, Answered(samples(*of)), model=name)) for name, of in values.items()}
    tied = say("report", *places.values(), "--format", "latex")[1]
    assert "textbf" not in tied
    clear = say("report", places["low"], places["near"], "--format", "latex")[1]
    assert r"gsm8k & accuracy & 0.0000 & \textbf{0.5000 $\pm$ 0.0801} \\" in clear
    html = say("report", places["low"], places["near"], "--format", "html")[1]
    assert html.count('class="num main"') == 1


def test_one_report_says_which_run_it_is(folders, say):
    _, out, _ = say("report", folders[1])
    assert out.startswith("new  run run-b  2026-02-25 06:13:20 UTC")
    assert json.loads(say("report", folders[1], "--format", "json")[1])["run"]["id"] == "run-b"
    assert say("report", folders[1], "--format", "html")[1].startswith("<!doctype html>")


def test_names_of_models_are_escaped_in_latex(say, tmp_path):
    place = str(write_run(tmp_path, "a", LOW, model="a_b&c%"))
    assert r"Benchmark & Metric & a\_b\&c\% \\" in say("report", place, "--format", "latex")[1]


def test_python_gets_the_same_numbers_as_rows(folders):
    found = evalmesh.compare(*folders, flips=3)
    (row,) = found.rows()
    assert (row["run"], row["metric"], row["difference"], row["verdict"]) == ("new", "accuracy", 0.4, "better")
    assert [one["b"]["value"] for one in found.flips] == [1.0, 1.0, 1.0]
    assert found.document["runs"][0]["id"] == "run-a"


def test_python_is_told_what_is_wrong(folders):
    with pytest.raises(NotFound, match="nobody"):
        evalmesh.compare(folders[0], "nobody")
