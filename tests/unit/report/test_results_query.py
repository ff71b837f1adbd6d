"""Queries over results, held against the same done row by row in Python."""

import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.kit.results import KINDS, write_results

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.result_query import ResultQuery
from evalmesh.results.query import ResultsFile
from evalmesh.results.table import read_results

SHARDS = (
    ("geo", KINDS * 3),
    ("geo", ("right",) * 9),
    ("history", ("errored",) * 4 + ("wrong", "no_answer")),
    ("history", KINDS),
    ("zoo", ("wrong",) * 20),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("results") / "rivers.parquet", SHARDS)


@pytest.fixture(scope="module")
def rows(path):
    """Every row, with the grade it was made for."""
    made = [kind for _, kinds in SHARDS for kind in kinds]
    found = list(read_results(path))
    assert len(made) == len(found)
    return [{**row, "grade": kind} for row, kind in zip(found, made, strict=True)]


def asked(path, most=None, **query):
    with ResultsFile(path) as results:
        return list(results.rows(ResultQuery.of(**query), most))


def paged(path, size, **query):
    found, after, pages = [], None, 0
    while pages == 0 or after is not None:
        with ResultsFile(io.BytesIO(path.read_bytes())) as results:
            texts, after = results.page(ResultQuery.of(**query), after, size)
        assert len(texts) <= size
        found += map(json.loads, texts)
        pages += 1
        assert pages < 200
    return found


def test_every_row_has_the_grade_it_was_made_for(path, rows):
    assert asked(path) == rows


@pytest.mark.parametrize("grade", KINDS)
def test_rows_of_a_grade(path, rows, grade):
    assert asked(path, grades=grade) == [row for row in rows if row["grade"] == grade]


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ({"grades": ["wrong", "errored"], "subset": "history"}, lambda r: r["grade"] in {"wrong", "errored"}),
        ({"state": "scored", "subset": "history"}, lambda r: r["state"] == "scored"),
        ({"search": "rhine", "grades": "right", "subset": "history"}, lambda r: r["grade"] == "right"),
        ({"search": "danube", "subset": "history"}, lambda r: r["grade"] == "errored"),
        ({"search": "HISTORY NUMBER 30", "subset": "history"}, lambda r: "number 30" in r["input"]),
        ({"search": "be brief", "subset": "history"}, lambda r: False),
        ({"subset": "nowhere"}, lambda r: False),
    ],
)
def test_all_that_is_asked_counts(path, rows, query, fits):
    wanted = [row for row in rows if row["subset"] == query["subset"] and fits(row)]
    assert asked(path, **query) == wanted
    assert paged(path, 3, **query) == wanted


def test_one_sample_by_its_id_or_one_of_its_requests(path, rows):
    wanted = [row for row in rows if row["sample_id"] == "geo/4"]
    assert len(wanted) == 1
    assert asked(path, sample_id="geo/4") == asked(path, sample_id="geo/4#0") == wanted
    for nothing in ("geo/4#1", "geo", "geo/4#x", "#0", "geo/4#99999999999999999999"):
        assert asked(path, sample_id=nothing) == []


@pytest.mark.parametrize(
    "column", ["latency_s", "output_tokens", "sample_id", "score", "score_near", "index", "reason"]
)
@pytest.mark.parametrize("descending", [False, True])
def test_order_is_stable_and_what_has_no_value_comes_last(path, rows, column, descending):
    name = "score_accuracy" if column == "score" else column
    have = [row for row in rows if row[name] is not None]
    # Python's sort is stable in both directions: equal ones stay as planned.
    wanted = sorted(have, key=lambda r: r[name], reverse=descending) + [r for r in rows if r[name] is None]
    order = f"{column} desc" if descending else column
    assert asked(path, order_by=order) == wanted
    assert asked(path, 5, order_by=order) == wanted[:5]
    assert paged(path, 7, order_by=order) == wanted
    some = [row for row in wanted if row["grade"] in {"wrong", "errored"}]
    assert paged(path, 4, order_by=order, grades=["wrong", "errored"]) == some


def test_pages_of_any_size_hold_every_row_once(path, rows):
    for size in (1, 2, 5, 1000):
        assert paged(path, size) == rows


def test_only_the_columns_that_are_wanted(path, rows):
    assert asked(path, columns=["sample_id", "grade"])[2] == {"sample_id": "geo/2", "grade": "no_answer"}
    assert asked(path, columns="answer") == [{"answer": row["answer"]} for row in rows]


def test_counts_are_of_all_grades_whatever_is_filtered_by(path, rows):
    with ResultsFile(path) as results:
        for query in (ResultQuery(), ResultQuery(grades=("right",)), ResultQuery(subset="geo", search="rhine")):
            wanted = [r for r in rows if not query.subset or r["subset"] == "geo"]
            counted = {grade: sum(r["grade"] == grade for r in wanted) for grade in KINDS}
            found = results.counts(query)
            assert found == {grade: count for grade, count in counted.items() if grade in found}
            assert set(found) == set(KINDS)


@pytest.mark.parametrize(("field", "value"), [("order_by", "nothing"), ("order_by", "target"), ("columns", "nothing")])
def test_a_column_that_is_not_there_is_named(path, field, value):
    with pytest.raises(InvalidInput, match=f"^{field}: .*{value}"):
        asked(path, **{field: value})


def test_what_is_no_results_file_is_said(tmp_path):
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(InvalidInput, match=r"x\.parquet"):
        ResultsFile(tmp_path / "x.parquet")


def test_random_queries_agree_with_the_rows(path, rows):
    draw = random.Random(7)
    for _ in range(60):
        grades = draw.sample(KINDS, draw.randint(0, 3))
        subset = draw.choice(["", "geo", "history", "zoo"])
        search = draw.choice(["", "river", "ELBE", "number 1", "luck"])
        text = [json.dumps(row).lower() for row in rows]
        wanted = [
            row
            for row, said in zip(rows, text, strict=True)
            if (not grades or row["grade"] in grades)
            and (not subset or row["subset"] == subset)
            and search.lower() in said
        ]
        assert paged(path, 6, grades=grades, subset=subset, search=search) == wanted


def test_where_the_results_say_whether_there_was_an_answer_that_counts(path, tmp_path):
    table = pq.read_table(path)
    said = {"right": "answered", "wrong": "empty", "no_answer": "answered_cut"}
    grades = [row["grade"] for row in asked(path)]
    if "outcome" in table.column_names:
        table = table.drop_columns("outcome")
    told = table.append_column("outcome", pa.array([said.get(grade, grade) for grade in grades], pa.string()))
    pq.write_table(told, tmp_path / "told.parquet")
    turned = {"wrong": "no_answer", "no_answer": "wrong"}
    assert [row["grade"] for row in asked(tmp_path / "told.parquet")] == [turned.get(one, one) for one in grades]
