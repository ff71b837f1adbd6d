import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalmesh.load.measure.records import NAN, Flag, Outcome
from evalmesh.load.measure.table import DTYPE
from evalmesh.report_aggregator.load_tests import requests as perf_requests
from evalmesh.report_aggregator.load_tests.requests import RequestsWriter, requests_schema


def make_records(*rows):
    """Records with these fields set; times that are not said did not happen."""
    records = np.zeros(len(rows), DTYPE)
    for name in DTYPE.names:
        if name.endswith("_s"):
            records[name] = NAN
    for record, row in zip(records, rows, strict=True):
        for name, value in row.items():
            record[name] = value
    return records


def written(tmp_path, *levels):
    """The table that is written for these levels of records."""
    path = tmp_path / "requests.parquet"
    with RequestsWriter(path, "lt-1") as writer:
        for number, records in enumerate(levels):
            source = tmp_path / f"{number}.bin"
            source.write_bytes(records.tobytes())
            assert writer.add_level(number, source, repeat=number) == len(records)
        assert writer.rows == sum(map(len, levels))
    return pq.read_table(path)


def test_rows_are_sorted_by_level_and_index(tmp_path):
    levels = [make_records(*({"index": index} for index in order)) for order in ((3, 0, 2, 1), (1, 0))]
    table = written(tmp_path, *levels)
    assert table.column("level").to_pylist() == [0, 0, 0, 0, 1, 1]
    assert table.column("repeat").to_pylist() == [0, 0, 0, 0, 1, 1]
    assert table.column("index").to_pylist() == [0, 1, 2, 3, 0, 1]


def test_every_field_of_a_record_is_in_its_row(tmp_path):
    values = dict.fromkeys(DTYPE.names, 7) | {"outcome": Outcome.OK, "flags": Flag.USAGE | Flag.NEW_CONNECTION}
    (row,) = written(tmp_path, make_records(values)).to_pylist()
    expected = {"level": 0, "repeat": 0, "outcome": "ok", "http_status": 7, "content_chunks": 7}
    expected |= {"warmup": False, "new_connection": True, "server_usage": True, "doubtful_tokens": False}
    assert {name: row[name] for name in expected} == expected
    others = [name for name in DTYPE.names if name not in {"outcome", "flags", "status", "chunks"}]
    assert {name: row[name] for name in others} == dict.fromkeys(others, 7)
    assert len(row) == len(others) + len(expected)


def test_what_did_not_happen_and_what_is_unknown_is_null(tmp_path):
    (row,) = written(tmp_path, make_records({"due_s": 1.5, "outcome": Outcome.UNSENT})).to_pylist()
    known = {name for name, value in row.items() if value is not None}
    assert row["due_s"] == 1.5
    for name in ("send_s", "first_s", "end_s", "connect_s", "http_status", "input_tokens", "max_tokens"):
        assert name not in known
    assert row["output_tokens"] == 0
    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_outcomes_are_counted_under_their_classes(tmp_path):
    outcomes = [
        (Outcome.OK, 200),
        (Outcome.HTTP, 429),
        (Outcome.HTTP, 500),
        (Outcome.TRUNCATED, 200),
        (Outcome.RESET, 0),
    ]
    outcomes += [(Outcome.OK, 0), (Outcome.TRUNCATED, 201)]
    rows = [{"index": n, "outcome": outcome, "status": status} for n, (outcome, status) in enumerate(outcomes)]
    found = written(tmp_path, make_records(*rows)).column("outcome").to_pylist()
    assert found == ["ok", "http_429", "http_500", "truncated", "reset", "ok", "truncated"]


def test_many_row_groups_hold_what_one_would(tmp_path, monkeypatch):
    monkeypatch.setattr(perf_requests, "ROWS_PER_GROUP", 100)
    draw = np.random.default_rng(5)
    index = draw.permutation(1234)
    records = make_records(*({"index": n, "outcome": 1, "status": 400 + n % 200, "due_s": n / 8} for n in index))
    table = written(tmp_path, records)
    with pq.ParquetFile(tmp_path / "requests.parquet") as file:
        assert file.num_row_groups == 13
    assert table.column("index").to_pylist() == list(range(1234))
    assert table.column("due_s").to_pylist() == [n / 8 for n in range(1234)]
    assert table.column("outcome").to_pylist() == [f"http_{400 + n % 200}" for n in range(1234)]


@pytest.mark.parametrize("levels", [0, 2])
def test_a_load_test_without_requests_has_a_table_without_rows(tmp_path, levels):
    table = written(tmp_path, *[make_records()] * levels)
    assert table.num_rows == 0
    assert table.schema.names == requests_schema("lt-1").names


def test_the_file_says_what_it_is_and_each_column_what_it_holds(tmp_path):
    schema = written(tmp_path, make_records({})).schema
    assert schema.metadata[b"load_test"] == b"lt-1"
    assert schema.metadata[b"schema_version"] == b"1"
    for field in schema:
        assert field.metadata[b"description"], field.name
        assert not pa.types.is_floating(field.type) or field.name.endswith("_s")


def test_every_column_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "perf-schema.md").read_text().partition("# The requests table")[2]
    documented = set(re.findall(r"`(\w+)`", text))
    assert set(requests_schema("lt-1").names) <= documented
