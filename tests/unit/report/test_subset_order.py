"""Subsets come in the order of their numbers wherever they are shown."""

import pytest
from tests.unit.report.builders import make_benchmark, make_metric

from evalmesh.cli.eval.side_by_side import csv_rows, side_rows
from evalmesh.cli.eval.table import render_table
from evalmesh.domain.metric import SubsetReport
from evalmesh.domain.natural_order import natural

GIVEN = ["part 1", "part 10", "part 11", "Part 2", "algebra", "3"]
EXPECTED = ["3", "algebra", "part 1", "Part 2", "part 10", "part 11"]


@pytest.fixture
def report(build):
    subsets = tuple(SubsetReport(name, (make_metric(),), f"c {name}") for name in GIVEN)
    categories = tuple(SubsetReport(f"c {name}", (make_metric(),)) for name in GIVEN)
    return build(make_benchmark(subsets=subsets, categories=categories))


def test_in_the_table_of_a_run(report):
    texts = [cell.text for row in render_table(report, verbose=True).rows for cell in row.cells]
    assert [text for text in texts if text in GIVEN] == EXPECTED
    assert [text[6:] for text in texts if text.startswith("all c ")] == EXPECTED


def test_side_by_side(report):
    assert [row.subset for row in side_rows([report, report], verbose=True) if row.subset] == EXPECTED
    assert [row["subset"] for row in csv_rows([report]) if row["subset"]] == EXPECTED


def test_numbers_count_as_numbers():
    names = ["v1.10", "v1.9", "v1.2b", "v1.2a", "10", "9", "x00000000000000000000000000000001", ""]
    assert sorted(names, key=natural)[:3] == ["", "9", "10"]
    assert sorted(names, key=natural)[3:7] == ["v1.2a", "v1.2b", "v1.9", "v1.10"]
