"""Rows come out of files one at a time, whatever the form; what is broken is told with its place."""

import gzip
import io
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.prompts import json_stream, rows
from evalmesh.load_generator.prompts.base import Bad

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


class Drops(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, seed: int) -> None:
        super().__init__(data)
        self._rng = random.Random(seed)

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._rng.randint(1, 7))


def of_file(folder: Path, name: str, data: str | bytes, called: str = "") -> list[tuple[str, Any]]:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(rows.records(path, called))


@given(st.lists(values, max_size=8), st.sampled_from((None, 1)), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_the_items_of_an_array_are_its_items(items: list[Any], indent: int | None, seed: int) -> None:
    data = json.dumps(items, ensure_ascii=seed % 2 == 0, indent=indent).encode("utf-8", "surrogatepass")
    assert list(json_stream.items(Drops(data, seed))) == json.loads(data.decode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'[{"a": 1}, {"b": }]', "Item 2"),
        (b'[{"a": 1} {"b": 2}]', "Item 1.*should follow"),
        (b'[{"a": 1}, ', "Item 2"),
        (b'[{"a": 1}', "Item 1.*ends behind it"),
        (b'[{"a": "x', "Item 1"),
        (b"", "no JSON array"),
        (b"[" * 100_000, "Item 1.*nested too deeply"),
    ],
)
def test_a_broken_array_is_told_with_its_item(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        list(json_stream.items(io.BytesIO(data)))


@pytest.mark.parametrize("name", ["big.json", "big.jsonl", "big.csv", "big.json.gz"])
def test_a_large_file_takes_the_memory_of_a_row(tmp_path: Path, name: str) -> None:
    texts = [f"{n} " + "words and more words " * 100 for n in range(4000)]  # 8 MB
    if ".json" in name and "jsonl" not in name:
        data = json.dumps([{"prompt": text} for text in texts])
    elif "jsonl" in name:
        data = "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
    else:
        data = "prompt\n" + "".join(text + "\n" for text in texts)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data.encode(), 1) if name.endswith(".gz") else data.encode())
    tracemalloc.start()
    try:
        count = sum(1 for _ in rows.records(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 4000
    assert peak < 1_500_000


class TestForms:
    def test_json_lines(self, tmp_path: Path) -> None:
        found = of_file(tmp_path, "a.jsonl", '\ufeff{"a": 1}\r\n\r\n  \n[1, 2]\n"text"')
        assert found == [("line 1", {"a": 1}), ("line 4", [1, 2]), ("line 5", "text")]

    def test_csv_with_quotes_and_line_breaks(self, tmp_path: Path) -> None:
        found = of_file(tmp_path, "a.csv", '\ufeffa , b\n"x, ""y""\nz",2\n\n3\n4,5\n')
        assert found[0] == ("line 2", {"a": 'x, "y"\nz', "b": "2"})
        assert isinstance(found[1][1], Bad)
        assert "1 fields where the header has 2" in found[1][1].reason
        assert found[2] == ("line 6", {"a": "4", "b": "5"})

    def test_tsv(self, tmp_path: Path) -> None:
        assert of_file(tmp_path, "a.tsv", "a\tb\n1\t2,3\n") == [("line 2", {"a": "1", "b": "2,3"})]

    def test_text(self, tmp_path: Path) -> None:
        assert of_file(tmp_path, "a.txt", "{one}\n\n two \n") == [("line 1", "{one}"), ("line 3", "two")]

    def test_parquet(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"prompt": [f"p{n}" for n in range(600)]}), tmp_path / "a.parquet")
        found = list(rows.records(tmp_path / "a.parquet"))
        assert len(found) == 600
        assert found[599] == ("row 600", {"prompt": "p599"})

    def test_gzip_is_noticed_by_its_first_bytes(self, tmp_path: Path) -> None:
        assert of_file(tmp_path, "data", gzip.compress(b'{"a": 1}\n'), "a.jsonl.gz") == [("line 1", {"a": 1})]

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            ('[{"a": 1}]', "json"),
            ('[\n{"a": 1}\n]', "json"),
            ('[{"a": 1}]\n[{"a": 2}]', "lines"),
            ('{"a": 1}\n{"a": 2}', "lines"),
            ("some text", "text"),
            ("", "text"),
        ],
    )
    def test_without_a_suffix_the_beginning_says_what_it_is(self, tmp_path: Path, data: str, kind: str) -> None:
        (tmp_path / "0f3a").write_text(data, encoding="utf-8")
        assert rows.kind_of(tmp_path / "0f3a") == kind

    def test_the_uploads_name_says_what_it_is(self, tmp_path: Path) -> None:
        assert of_file(tmp_path, "0f3a", "a\n1\n", "prompts.CSV") == [("line 2", {"a": "1"})]


class TestBrokenRows:
    def test_a_line_that_is_no_json_is_told_with_its_number(self, tmp_path: Path) -> None:
        found = of_file(tmp_path, "a.jsonl", b'{"a": 1}\n{"a": \n\xff\xfe\n' + b"[" * 100_000)
        assert [where for where, _ in found] == ["line 1", "line 2", "line 3", "line 4"]
        assert all(isinstance(value, Bad) and "no valid JSON" in value.reason for _, value in found[1:])

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        found = of_file(tmp_path, "a.txt", b"fine\n\xff\xff\n")
        assert isinstance(found[1][1], Bad)
        assert "UTF-8" in found[1][1].reason

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="not there"):
            list(rows.records(tmp_path / "nowhere.jsonl"))
        with pytest.raises(InvalidInput, match="cannot be read"):
            of_file(tmp_path, "a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000)[:40])
        with pytest.raises(InvalidInput, match="no valid Parquet"):
            of_file(tmp_path, "a.parquet", b"PAR1 and nothing else PAR1")
