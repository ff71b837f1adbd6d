"""Files that users bring: refused before a run, or read, counted and named; several sets; answers made elsewhere."""

import json
import os
from pathlib import Path

import pytest
from tests.kit.cli import evalmesh, report_in

from evalmesh.benchmarks import registry
from evalmesh.domain.request import Request
from evalmesh.domain.sample import Sample
from evalmesh.results.recorded import RecordedCompletions

pytestmark = pytest.mark.timeout(120)

LAW = "question,A,B,answer\nMay one float?,yes,no,A\nMay one sink?,yes,no,B\n"
FAQ = '{"query": "Which river?", "response": ["Danube", "The Danube"]}\n{"query": "And now?"}\n'


def runs_of(cwd: Path) -> list[str]:
    done = evalmesh("runs", "list", "--format", "json", cwd=cwd)
    return [one["id"] for one in json.loads(done.stdout)]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "law.csv").write_text(LAW)
    (tmp_path / "faq.jsonl").write_text(FAQ)
    return tmp_path


def test_a_file_with_another_header_is_refused_before_a_run(work):
    (work / "q.csv").write_text("frage,A,B,answer\nx,1,2,A\n")
    done = evalmesh("eval", "--demo", "--datasets", "general_mcq:q.csv", cwd=work)
    assert done.returncode == 2
    assert f"'{work / 'q.csv'}' has no row that can be used" in done.stderr
    assert "q.csv: line 2: column 'question' is missing (there are: frage, A, B, answer)" in done.stderr
    assert "resume" not in done.stdout + done.stderr
    assert runs_of(work) == []


def test_a_chinese_spreadsheet_export_is_read_and_said_so(work):
    rows = "题目;A;B;答案\n中国的首都是哪里;北京;上海;A\n一年有几个月;十;十二;B\n坏;x;y;Z\n"
    (work / "exam.csv").write_bytes(rows.encode("gbk"))
    seen = evalmesh("benchmarks", "preview", "general_mcq:exam.csv", "--samples", 3, cwd=work)
    assert "中国的首都是哪里" in seen.stdout
    assert "1 of 3 rows cannot be used:\n  default/2: exam.csv: line 4: column '答案' is 'Z'" in seen.stderr
    done = evalmesh("eval", "--demo", "--datasets", "general_mcq:exam.csv", cwd=work)
    assert done.returncode == 3
    for output in (seen.stderr, done.stdout):
        assert "exam.csv is read as gb18030" in output
        assert "the fields of exam.csv are taken to end at semicolons" in output
        assert "column '题目' is read as question" in output
    assert "malformed_row 1: exam.csv: column '答案' is 'Z'" in done.stdout
    assert "(line 4)" in done.stdout


def test_several_sets_have_names_and_are_reused_under_others(work):
    sets = ["law=general_mcq:law.csv", "tax=general_mcq:law.csv", "faq=general_qa:faq.jsonl"]
    done = evalmesh("eval", "--demo", "--no-timestamp", "--work-dir", "first", "--datasets", *sets, cwd=work)
    assert done.returncode == 3, done.stderr
    report = report_in(work / "first")
    found = {one["name"]: one for one in report["benchmarks"]}
    assert list(found) == ["law", "tax", "faq"]
    assert found["law"]["title"] == "law, law.csv (General multiple choice)"
    assert found["law"]["metrics"][0]["value"] is not None
    metrics = {one["name"]: one for one in found["faq"]["metrics"]}
    assert set(metrics) == {"f1", "exact_match", "contains", "rouge_l", "bleu"}
    assert {(one["n_scored"], one["n_unscored"]) for one in metrics.values()} == {(1, 1)}
    assert (work / "first" / "results" / "law.parquet").is_file()
    again = evalmesh(
        "eval",
        "--demo",
        "--work-dir",
        "first",
        "--use-cache",
        "first",
        "--datasets",
        "jura=general_mcq:law.csv",
        cwd=work,
    )
    assert again.returncode == 0, again.stderr
    newest = max(work.glob("first/2*/report.json"), key=os.path.getmtime)
    assert [one["n_reused"] for one in json.loads(newest.read_text())["benchmarks"]] == [2]


def test_paths_of_a_config_are_relative_to_it(work):
    (work / "configs").mkdir()
    (work / "law.csv").rename(work / "configs" / "law.csv")
    (work / "configs" / "run.yaml").write_text(
        "demo: true\ndatasets: [law, 'tax=general_mcq:law.csv']\n"
        "dataset_args:\n  law: {benchmark: general_mcq, local_path: law.csv}\n"
    )
    done = evalmesh("eval", "-c", "configs/run.yaml", cwd=work)
    assert done.returncode == 0, done.stderr
    (again,) = work.glob("outputs/2*/run.yaml")
    assert evalmesh("eval", "-c", again, "--dry-run", cwd=work).returncode == 0


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["eval", "--demo", "--datasets", "general_mcq:{file}"], "'{file}' cannot be read: input/output error"),
        (["benchmarks", "preview", "general_qa:{file}"], "'{file}' cannot be read: input/output error"),
        (["score", "--dataset", "starter_math", "--completions", "{file}"], "completions: '{file}' cannot be read"),
        (
            ["perf", "--url", "http://127.0.0.1:9", "--model", "m", "--dataset", "openqa", "--dataset-path", "{file}"],
            "dataset_path: '{file}' cannot be read: input/output error",
        ),
        (
            ["eval", "--demo", "--datasets", "gsm8k", "--dataset-dir", "{nowhere}"],
            "dataset_dir: '{nowhere}' does not exist",
        ),
        (["report", "{nowhere}"], "'{nowhere}' does not exist"),
        (["runs", "list", "--work-dir", "{nowhere}"], "'{nowhere}' is no folder that exists"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_path(work, command, complaint):
    # Whoever runs this may read every file that could be made, but not what the kernel does not give away.
    (work / "secret.csv").symlink_to("/proc/self/mem")
    places = {"file": work / "secret.csv", "nowhere": work / "nowhere"}
    done = evalmesh(*(part.format(**places) for part in command), cwd=work)
    assert done.returncode == 2, done.stderr
    assert complaint.format(**places) in done.stderr
    assert done.quiet


def test_answers_that_match_no_sample_are_counted_and_named(work):
    rows = [{"index": 0, "text": "ANSWER: A"}, {"index": 1, "text": "ANSWER: A"}, {"index": 99, "text": "ANSWER: A"}]
    lines = "\r\n".join(map(json.dumps, rows))
    (work / "answers.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    done = evalmesh("score", "--dataset", "general_mcq:law.csv", "--completions", "answers.jsonl", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "0.5000" in done.stdout
    assert "1 of 3 given completions match no sample that was asked for: index 99" in done.stdout


def test_what_a_run_leaves_can_be_scored_again(work):
    first = ["--no-timestamp", "--work-dir", "first"]
    assert evalmesh("eval", "--demo", *first, "--datasets", "law=general_mcq:law.csv", cwd=work).returncode == 0
    for left in (
        "predictions/simulated/law_default.jsonl",
        "reviews/simulated/law_default.jsonl",
        "results/law.parquet",
    ):
        done = evalmesh("score", "--dataset", "general_mcq:law.csv", "--completions", f"first/{left}", cwd=work)
        assert done.returncode == 0, done.stderr
        assert "match no sample" not in done.stdout


def test_evalscopes_files_are_read(shared_data):
    folder = shared_data / "evalscope_run" / "qwen-plus"
    gsm8k = registry.get("gsm8k")
    values = {}
    for kind in ("predictions", "reviews"):
        path = folder / kind / "qwen-plus" / "gsm8k_main.jsonl"
        targets = {}
        for line in (folder / "reviews/qwen-plus/gsm8k_main.jsonl").read_text().splitlines():
            row = json.loads(line)
            targets[row["index"]] = row["target"]
        with path.open("rb") as file:
            recorded = RecordedCompletions(file)
            for index, target in targets.items():
                sample = Sample(f"main/{index}", index, "main", input="?", target=(target,))
                answer = recorded.answer(sample, Request(sample.id, 0, "chat", "d"))
                score = gsm8k.shape.score(sample, answer)
                values[kind, index] = score.values["accuracy"]
            assert recorded.unused() == ""
    assert {index: value for (kind, index), value in values.items() if kind == "reviews"} == {
        index: value for (kind, index), value in values.items() if kind == "predictions"
    }
    assert sum(values.values()) > len(values) / 2
