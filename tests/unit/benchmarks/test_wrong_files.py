"""What users bring that cannot be evaluated: each file is refused before a run, with its path and what is wrong."""

import gzip
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.domain.errors import EvalmeshError, InvalidInput, NotFound
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.results.dataset import RunDataset

ROW = {"question": "Which floats?", "A": "a cork", "B": "a brick", "answer": "A"}
MCQ = "question,A,B,answer\nWhich floats?,a cork,a brick,A\n"
ZH = "题目,A,B,答案\n中国的首都是哪里,北京,上海,A\n一年有几个月,十,十二,B\n"


def opened(path, name="general_mcq", form=None, **wishes) -> RunDataset:
    benchmark = registry.get(name)
    spec = BenchmarkSpec(name, local_path=str(path), form=form or RowForm(), **wishes)
    validate_spec(benchmark, spec)
    return RunDataset(LocalDatasets(), benchmark, spec, RunSpec(ModelSpec("m"), (spec,)))


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


NOTHING = "has no row that can be used"
WRONG = [
    # (file, content, what the message must say beside the path)
    ("empty.csv", "", "is empty"),
    ("empty.jsonl", "", "is empty"),
    ("empty.json", "", "valid JSON|holds no"),
    ("empty.parquet", "", "not a valid Parquet"),
    ("empty.tsv", "", "is empty"),
    ("blank.csv", "\n\n\n", "holds no rows"),
    ("blank.jsonl", "  \n\n", "holds no rows"),
    ("mark.csv", b"\xef\xbb\xbf", "holds no rows"),
    ("header.csv", "question,A,B,answer\n", "holds no rows"),
    ("header.tsv", "question\tA\tB\tanswer\n", "holds no rows"),
    ("nothing.json", "[]", "holds no rows"),
    ("nothing.parquet", parquet([ROW])[:0], "not a valid Parquet"),
    ("norows.parquet", "none", "holds no rows"),
    ("other.csv", "q1,A,B,answer\nx,1,2,A\n", r"line 2: column 'question' is missing \(there are: q1, A, B, answer\)"),
    ("options.csv", "question,answer\nx,A\n", r"'A' and 'B' missing \(there are: question, answer\)"),
    ("one.csv", "question,A,answer\nx,1,A\n", "'B' missing"),
    ("noanswer.csv", "question,A,B\nx,1,2\n", "column 'answer' is missing"),
    ("letters.csv", "question,A,B,answer\nx,1,2,C\ny,1,2,D\n", "all 2 rows: .*column 'answer' is 'C'.*is 'D'"),
    ("numbers.csv", "question,A,B,answer\nx,p,q,0\n", "a number may count from 0 or from 1"),
    ("blank_answer.csv", "question,A,B,answer\nx,1,2,\n", "column 'answer' is empty"),
    ("blank_question.csv", "question,A,B,answer\n,1,2,A\n", "column 'question' is empty"),
    ("gap.csv", "question,A,B,C,D,answer\nx,1,2,,4,A\n", "column 'C' is empty although 'D'"),
    ("same.csv", "question,A,B,answer\nx,cork,cork,cork\n", "column 'answer' is 'cork'"),
    ("label.csv", "Question,Option A,Option B,Label\nx,1,2,Z\n", "column 'Label' is 'Z'"),
    ("short.csv", "question,A,B,answer\nx,1\n", "line 2: 2 fields, expected 4"),
    ("long.csv", "question,A,B,answer\nx,1,2,A,5,6\n", "line 2: 6 fields, expected 4"),
    ("prose.csv", "Dear all,\nplease find attached the questions.\n", NOTHING),
    ("space.csv", "question A B answer\nx 1 2 A\n", "column 'question' is missing"),
    ("colon.csv", "question:A:B:answer\nx:1:2:A\n", "column 'question' is missing"),
    ("twice.csv", "question,A,A,answer\nx,1,2,A\n", "has the column 'A' twice, in line 1"),
    ("quote.csv", 'question,A,B,answer\n"x,1,2,A\ny,1,2,B\n', "quotation mark"),
    ("quoted_header.csv", '"question,A,B,answer\nx,1,2,A\n', "header that cannot be read"),
    ("bare.csv", "Which floats?,a cork,a brick,A\nWhich sinks?,a cork,a brick,B\n", "column 'question' is missing"),
    ("html.csv", "<!DOCTYPE html>\n<html><body>404</body></html>\n", "column 'question' is missing"),
    ("json.csv", lines(ROW), "holds JSON, and its name says otherwise"),
    ("picture.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xff", "header that cannot be read"),
    ("zeros.csv", b"\x00" * 64, NOTHING + "|header that cannot be read|holds no rows"),
    ("sheet.csv", b"PK\x03\x04\x14\x00\x06\x00", "is a spreadsheet or another packed file"),
    ("sheet.xlsx", b"PK\x03\x04\x14\x00\x06\x00", "names end in one of jsonl.* Save the spreadsheet as CSV"),
    ("questions.txt", MCQ, "names end in one of jsonl"),
    ("questions", MCQ, "names end in one of jsonl"),
    ("questions.csv.zip", b"PK\x03\x04", "cannot be unpacked: .*Check that the archive is whole"),
    ("questions.yaml", "- question: x\n", "names end in one of jsonl"),
    ("short_zh.csv", "题目,A\n你好世界,2\n".encode("gbk"), "header that cannot be read: .*not valid UTF-8.*(gb18030)"),
    ("short_gbk.csv", "question,A,B,answer\n你好世界,x,y,A\n".encode("gbk"), "set `encoding` .*gb18030"),
    ("cut.csv.gz", gzip.compress(MCQ.encode() * 50)[:40], "cannot be read: .*ended before"),
    ("plain.jsonl.gz", b"\x1f\x8bnot gzip at all", "cannot be read"),
    ("cut.parquet", parquet([ROW])[:50], "not a valid Parquet"),
    ("csv.parquet", MCQ, "not a valid Parquet"),
    ("columns.parquet", parquet([{"text": "x", "label": 1}]), "column 'question' is missing .*text, label"),
    ("list.jsonl", "[1, 2]\n[3]\n", "line 1: a list, expected an object"),
    ("text.jsonl", '"just text"\n', "line 1: a str, expected an object"),
    ("csv.jsonl", MCQ, "line 1: not valid JSON"),
    ("broken.jsonl", '{"question": "x"\n', "line 1: not valid JSON"),
    ("single.jsonl", "{'question': 'x'}\n", "line 1: not valid JSON"),
    ("deep.jsonl", "[" * 100_000 + "\n", "line 1: not valid JSON: nested too deeply"),
    ("other.jsonl", lines({"text": "x"}), r"column 'question' is missing \(there are: text\)"),
    (
        "options.jsonl",
        lines({"question": "x", "choices": "yes or no", "answer": "A"}),
        "column 'choices' must hold a list",
    ),
    ("few.jsonl", lines({"question": "x", "choices": ["yes"], "answer": "A"}), "a list of 2 to 26 options"),
    (
        "index.jsonl",
        lines({"question": "x", "choices": ["p", "q"], "answer": 1}),
        "a number may count from 0 or from 1",
    ),
    ("object.json", json.dumps({"question": "x"}), "holds no list of rows|column 'A'|columns 'A'"),
    ("number.json", "42", "not valid JSON|holds no list|expected an object"),
    ("cut.json", '[{"question": "x", "A": "1"', "is not valid JSON"),
    ("many.csv", "question,A,B,answer\n" + "x,1,2,Z\n" * 1500, "the first 1000 rows"),
]
"""At least sixty, each a mistake of its own."""


def written(tmp_path: Path, name: str, content) -> Path:
    path = tmp_path / name
    if name == "norows.parquet":
        pq.write_table(pa.table({"question": pa.array([], pa.string())}), path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("name", "content", "complaint"), WRONG, ids=[one[0] for one in WRONG])
def test_a_file_without_a_usable_row_is_refused_with_its_path_and_the_reason(tmp_path, name, content, complaint):
    path = written(tmp_path, name, content)
    with pytest.raises(EvalmeshError) as caught:
        opened(path).check_rows()
    message = caught.value.message
    assert isinstance(caught.value, InvalidInput | NotFound)
    assert str(path) in message
    assert re.search(complaint, message), message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("nowhere.csv", "does not exist"),
        ("nowhere/questions.csv", "does not exist"),
        ("x" * 300 + ".csv", "cannot be read: file name too long"),
        ("folder", "No files found"),
        ("loop.csv", "does not exist"),
        ("dangling.csv", "does not exist"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(tmp_path, place, complaint):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(EvalmeshError, match=complaint) as caught:
        opened(tmp_path / place).check_rows()
    assert str(tmp_path) in caught.value.message


@contextmanager
def somebody() -> Iterator[None]:
    """Not the superuser, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("closed", ["file", "folder", "dataset_dir"])
def test_what_may_not_be_read_is_refused_by_its_path(tmp_path, closed):
    folder = tmp_path / "closed"
    folder.mkdir()
    path = written(folder, "q.csv", MCQ)
    opened(path).check_rows()  # loads what is loaded late
    path.chmod(0)
    folder.chmod(0o755 if closed == "file" else 0)
    spec = BenchmarkSpec("gsm8k")
    run = RunSpec(ModelSpec("m"), (spec,), dataset_dir=str(folder))
    ways = {
        "file": lambda: opened(path).check_rows(),
        "folder": lambda: opened(folder),
        "dataset_dir": lambda: RunDataset(LocalDatasets(), registry.get("gsm8k"), spec, run),
    }
    try:
        with somebody(), pytest.raises(InvalidInput, match="cannot be read: permission denied") as caught:
            ways[closed]()
    finally:
        folder.chmod(0o755)
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet", "csv.gz"])
def test_a_folder_in_place_of_a_file_is_told(tmp_path, suffix):
    (tmp_path / f"default_val.{suffix}").mkdir()
    with pytest.raises(EvalmeshError, match="No files found") as caught:
        opened(tmp_path).check_rows()
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        (RowForm(columns={"quesiton": "Question"}), "Did you mean 'question'"),
        (RowForm(columns={"frage": "question"}), 'write {"question": "frage"}'),
        (RowForm(columns={"question": "frage"}), "'frage', which columns.question names, is missing"),
        (RowForm(encoding="utf-16"), "cannot be read as utf-16"),
        (RowForm(encoding="ascii-ish"), "'ascii-ish' is no encoding of text"),
        (RowForm(delimiter=";"), "column 'question' is missing"),
    ],
)
def test_what_is_said_of_a_file_is_taken_at_its_word(tmp_path, form, complaint):
    path = written(tmp_path, "q.csv", MCQ)
    with pytest.raises(InvalidInput, match=complaint):
        opened(path, form=form).check_rows()


SIX = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gbk", "gb18030", "utf-32"]
READ = [
    *((f"{one}.csv", ZH.encode(one), None) for one in SIX),
    ("sjis.csv", "question,A,B,answer\n日本の首都はどこですか,東京,大阪,A\n".encode("shift_jis"), None),
    ("big5.csv", "question,A,B,answer\n台灣的首都在哪裡,台北,高雄,A\n".encode("big5"), None),
    ("kr.csv", "question,A,B,answer\n한국의 수도는 어디입니까,서울,부산,A\n".encode("euc_kr"), None),
    ("ru.csv", "question,A,B,answer\nКакой город столица России?,Москва,Омск,A\n".encode("cp1251"), None),  # noqa: RUF001
    ("fr.csv", "question,A,B,answer\nOù l'été est-il chaud en France ?,Orléans,Rome,A\n".encode("latin-1"), None),
    ("said.csv", "question,A,B,answer\n你好世界,x,y,A\n".encode("gbk"), RowForm(encoding="gbk")),
    ("semicolon.csv", MCQ.replace(",", ";"), None),
    ("tab.csv", MCQ.replace(",", "\t"), None),
    ("bar.csv", MCQ.replace(",", "|"), None),
    ("comma.tsv", MCQ, None),
    ("said_bar.csv", MCQ.replace(",", "!"), RowForm(delimiter="!")),
    ("excel.csv", "sep=;\n" + MCQ.replace(",", ";"), None),
    ("windows.csv", MCQ.replace("\n", "\r\n"), None),
    ("old_mac.csv", MCQ.replace("\n", "\r"), None),
    ("first_blank.csv", "\n\n" + MCQ, None),
    ("capitals.csv", MCQ.replace("question", " QUESTION ").replace("answer", "Answer"), None),
    ("synonyms.csv", "Prompt,option_a,Option B,correct answer\nx,1,2,A\n", None),
    (
        "named.csv",
        "frage,eins,zwei,lösung\nx,1,2,A\n",
        RowForm({"question": "frage", "A": "eins", "B": "zwei", "answer": "lösung"}),
    ),
    ("text_answer.csv", MCQ.replace(",A\n", ",a cork\n"), None),
    ("dressed.csv", MCQ.replace(",A\n", ",(a)\n"), None),
    ("packed.csv.gz", gzip.compress(MCQ.encode()), None),
    ("q.jsonl", lines(ROW), None),
    ("q.json", json.dumps([ROW]), None),
    ("lines.json", lines(ROW), None),
    ("around.json", json.dumps({"data": [ROW]}), None),
    ("q.parquet", parquet([ROW]), None),
    ("list.jsonl", lines({"query": "x", "options": ["p", "q"], "target": "q"}), None),
    ("lettered.jsonl", lines({"query": "x", "options": ["A. p", "B. q"], "label": "B"}), None),
    ("object.jsonl", lines({"query": "x", "choices": {"B": "q", "A": "p"}, "gold": "B"}), None),
    ("cell.csv", 'question,choices,answer\nx,"[""p"", ""q""]",B\n', None),
]


@pytest.mark.parametrize(("name", "content", "form"), READ, ids=[one[0] for one in READ])
def test_a_file_in_another_dress_is_read(tmp_path, name, content, form):
    dataset = opened(written(tmp_path, name, content), form=form)
    dataset.check_rows()
    samples = list(dataset.planned(dataset.subsets[0]))
    assert all(sample.sample.target[0] in "AB" for sample in samples)
    assert "\ufffd" not in samples[0].sample.input
    if "zh" not in name and name.partition(".")[0] in SIX:
        assert samples[0].sample.choices == ("北京", "上海")


def test_what_was_guessed_is_said_and_what_was_named_is_not(tmp_path):
    path = written(tmp_path, "q.csv", ZH.replace(",", ";").encode("gbk"))
    guessed = opened(path)
    list(guessed.planned(guessed.subsets[0]))
    assert set(guessed.notes) == {
        "q.csv is read as gb18030",
        "the fields of q.csv are taken to end at semicolons",
        "column '题目' is read as question",
        "column '答案' is read as answer",
    }
    named = opened(path, form=RowForm({"question": "题目", "answer": "答案"}, "gbk", ";"))
    list(named.planned(named.subsets[0]))
    assert named.notes == ()


def test_some_bad_rows_leave_the_others(tmp_path):
    path = written(tmp_path, "q.csv", MCQ + "x,1\n" + MCQ.splitlines()[1] + "\ny,1,2,Z\n")
    dataset = opened(path)
    dataset.check_rows()
    rows = [str(row) for row in dataset.planned(dataset.subsets[0])]
    assert rows[1].startswith("default/1: q.csv: line 3: 2 fields")
    assert rows[3].startswith("default/3: q.csv: line 5: column 'answer' is 'Z'")


def test_a_folder_of_any_files_has_a_subset_for_each(tmp_path):
    for name in ("law.csv", "tax.jsonl", "law_dev.csv"):
        written(tmp_path, name, MCQ if name.endswith("csv") else lines(ROW))
    dataset = opened(tmp_path)
    dataset.check_rows()
    assert [subset.name for subset in dataset.subsets] == ["law", "tax"]
    solved = opened(tmp_path, few_shot_num=1, subsets=("law",))
    (row,) = solved.planned(solved.subsets[0])
    assert len(row.messages) == 3


def test_one_bad_file_of_a_folder_is_refused_by_its_name(tmp_path):
    written(tmp_path, "law_val.csv", MCQ)
    written(tmp_path, "tax_val.csv", "a,b\n1,2\n")
    with pytest.raises(InvalidInput, match=r"tax_val.csv' has no row"):
        opened(tmp_path).check_rows()


@pytest.mark.parametrize("name", ["starter_math", "starter_mcq", "general_mcq"])
def test_a_subset_that_is_not_there_is_refused(tmp_path, name):
    written(tmp_path, "law_val.csv", MCQ)
    wishes = {"local_path": str(tmp_path)} if name == "general_mcq" else {}
    spec = BenchmarkSpec(name, subsets=("nope",), **wishes)
    benchmark = registry.get(name)
    with pytest.raises(InvalidInput, match="'nope' is not a subset of"):
        RunDataset(LocalDatasets(), benchmark, spec, RunSpec(ModelSpec("m"), (spec,)))
