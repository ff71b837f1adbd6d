"""`evalmesh samples` over a folder that holds results and nothing else."""

import csv
import io
import json
import re

import pytest
from rich.cells import cell_len
from tests.kit.results import KINDS, write_results

from evalmesh.cli.__main__ import main
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import Message
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.results.table import ResultsWriter

HOSTILE = "\x1b[31mred\x07 \x9b2J \u202eevil \u2028next</script>\x00\r\x08"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    shards = (("geo", KINDS * 2), ("zoo", KINDS))
    write_results(tmp_path / "results" / "rivers.parquet", shards)
    write_results(tmp_path / "results" / "lakes.parquet", (("deep", ("right",) * 30),), name="lakes")
    return tmp_path


@pytest.fixture
def samples(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def ask(*words, at=folder):
        code = main(["samples", str(at), *words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return ask


def ids(text):
    return [json.loads(line)["sample_id"] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--wrong"], ["geo/1", "geo/7", "zoo/101"]),
        (["--no-answer", "--unscored", "--subset", "zoo"], ["zoo/102", "zoo/104"]),
        (["--errored", "--grep", "DANUBE", "--limit", "1"], ["geo/3"]),
        (["--right", "--benchmark", "lakes", "--order-by", "index desc", "--limit", "2"], ["deep/29", "deep/28"]),
        (["--grep", "number 10", "--subset", "zoo", "--right", "--wrong"], ["zoo/100", "zoo/101"]),
        (["--grep", "no such words"], []),
    ],
)
def test_filters_say_which_rows(samples, words, wanted):
    code, out, _ = samples(*words, "--format", "jsonl")
    assert (code, ids(out)) == (0, wanted)


def test_lines_for_programs_are_complete(samples):
    _, out, err = samples("--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 18 + 30
    assert err == ""
    assert {"prompt", "completion", "reasoning", "answer", "extractor", "score_accuracy", "grade"} <= set(rows[0])
    _, table, _ = samples("--format", "csv", "--benchmark", "rivers")
    read = list(csv.DictReader(io.StringIO(table)))
    assert [row["sample_id"] for row in read] == ids(out)[30:]
    assert json.loads(read[0]["target"]) == ["Rhine", "Rhein"]


def test_the_table_counts_fits_eighty_columns_and_says_what_it_leaves_out(samples):
    code, out, _ = samples()
    assert code == 0
    assert "rivers  18 rows: 3 right, 3 wrong, 3 no answer, 3 errored, 3 unscored, 3 not run" in out
    assert "lakes  30 rows: 30 right" in out
    assert "10 more; --limit 0 shows all" in out
    assert max(cell_len(line) for line in out.splitlines()) <= 80
    assert "out of luck" in out
    for line in ("geo/0", "zoo/105", "deep/19"):
        assert re.search(rf"^{line} ", out, re.MULTILINE)
    _, every, _ = samples("--limit", "0", "--benchmark", "lakes")
    assert "more;" not in every
    assert "deep/29" in every


def test_one_sample_whole(samples):
    code, out, _ = samples("geo/0")
    assert code == 0
    for part in ("geo/0", "right", "Rhine | Rhein", "(rule marker)", "accuracy 1", "it was compared"):
        assert part in out
    order = [out.index(part) for part in ("── system", "Be brief.", "── user", "Which river", "── reasoning")]
    assert order == sorted(order)
    assert out.index("── completion") < out.index("It is the RHINE.")
    assert samples("zoo/103#0")[1].count("HTTP 500: no Danube") == 1
    document = samples("geo/0", "--format", "md")[1]
    assert "### user" in document
    assert ids(samples("geo/0", "--format", "jsonl")[1]) == ["geo/0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmark", "river"], "benchmark: this run has no 'river'. Did you mean rivers?"),
        (["--subset", "ge"], "subset: this run has no 'ge'. Did you mean geo?"),
        (["--subset", "geo", "--benchmark", "lakes"], "subset: this run has no 'geo'. There are deep."),
        (["geo/99"], "There is no sample 'geo/99' in lakes, rivers that fits"),
        (["--order-by", "beauty"], "order_by: there is no column 'beauty'"),
        (["--limit", "-1"], "limit: -1 is negative"),
        (["--grep", "x" * 2000], "grep: give at most 1000 characters"),
    ],
)
def test_what_is_not_there_is_said_by_its_name(samples, words, message):
    code, out, err = samples(*words)
    assert (code, out) == (2, "")
    assert message in err


def test_a_run_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["samples"]) == 2
    assert "evalmesh eval --demo" in capsys.readouterr().err
    assert main(["samples", "geo/0"]) == 2
    assert "evalmesh samples latest geo/0" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["table", "jsonl", "csv", "md"])
def test_nothing_that_a_model_says_steers_a_terminal(tmp_path, samples, form):
    with ResultsWriter(tmp_path / "h.parquet", run="r", benchmark="h", score_names=["accuracy"]) as writer:
        sample = Sample(f"s/{HOSTILE}", 0, HOSTILE, HOSTILE, (HOSTILE,))
        planned = PlannedSample(sample, "chat", ("d",), (Message("user", HOSTILE + "\ud800"),))
        score = Score(sample.id, 0, "scored", {"accuracy": 0.0}, HOSTILE, HOSTILE, HOSTILE)
        writer.add([planned], [Completion(sample.id, 0, "d", HOSTILE, HOSTILE)], [score])
    for words in ([], [f"s/{HOSTILE}"], ["--columns", "input", "answer"]):
        code, out, _ = samples(*words, "--format", form, at=tmp_path / "h.parquet")
        assert code == 0
        assert "evil" in out
        assert not STEERING.search(out), repr(out)
    if form == "jsonl":
        assert json.loads(out)["answer"] == HOSTILE


def test_wide_characters_and_long_ids_keep_to_the_width(tmp_path, samples):
    with ResultsWriter(tmp_path / "w.parquet", run="r", benchmark="w", score_names=["accuracy"]) as writer:
        for index, id_ in enumerate(("短", "x" * 70)):
            sample = Sample(id_, index, "s", "问题" * 60, ("答" * 30,))
            score = Score(id_, 0, "scored", {"accuracy": 0.0}, "错" * 30)
            writer.add([PlannedSample(sample, "chat", ("d",))], [Completion(id_, 0, "d", "t")], [score])
    _, out, _ = samples(at=tmp_path / "w.parquet")
    assert max(cell_len(line) for line in out.splitlines()) <= 80
    assert "x" * 70 in out
