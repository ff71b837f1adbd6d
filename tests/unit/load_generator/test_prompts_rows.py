"""Rows come out of files one at a time, whatever the form; what is broken is told with its place."""

import gzip
import io
import json
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.prompts import rows
from evalmesh.wire import json_items
from evalmesh.wire.row_files import Bad

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
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
    data = json.dumps(items, ensure_ascii=seed % 2 == 0, indent=indent).encode()
    assert list(json_items.items(Drops(data, seed))) == items


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'[{"a": 1}, {"b": }]', "item 2, line 1, column 18: Expecting value"),
        (b'[\n{"a": 1},\n  {"b": }]', "item 2, line 3, column 9"),
        (b'[{"a": 1} {"b": 2}]', "item 1, line 1, column 11: .* should follow"),
        (b'[{"a": 1}, ', "item 2"),
        (b'[{"a": 1}', "item 1.*ends behind it"),
        (b'[{"a": "x', "item 1"),
        (b'{"data": [{"a": 1}, {', "item 2"),
        (b'{"data" [1]}', "'data'.*':' should follow"),
        (b'{"version": [1, 2', "the value of 'version'"),
        (b"[" * 100_000, "item 1.*nested too deeply"),
    ],
)
def test_a_broken_array_is_told_with_its_item(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(json_items.items(io.BytesIO(data)))


@pytest.mark.parametrize("data", [b"", b"7", b"{}", b'{"a": [1]}', b'{"data": {"a": 1}}', b'{"data": 1, "a": [1]}'])
def test_a_file_without_a_list_is_none(data: bytes) -> None:
    with pytest.raises(json_items.NoListError):
        list(json_items.items(io.BytesIO(data)))


@given(st.lists(values, max_size=5), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_the_list_of_an_object_is_found_behind_other_keys(items: list[Any], seed: int) -> None:
    data = json.dumps({"version": {"data": [1]}, "of": [{"rows": []}], "data": items, "more": [1]}).encode()
    assert list(json_items.items(Drops(data, seed))) == json.loads(data)["data"]


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
        assert "1 fields, expected 2 (a, b)" in found[1][1].reason
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
            ('{"data": [{"a": 1}]}', "json"),
            ('{\n "data": [\n{"a": 1}]}', "json"),
            ('\n\n{"a": 1}\n', "lines"),
            ('{"a": \n{"a": 2}\n{"a": 2}', "lines"),
            ('{"a": "' + "x" * 100_000 + '"}\n{"a": 2}', "lines"),
            ('[{"a": "' + "x" * 100_000 + '"}]', "json"),
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
        assert all(isinstance(value, Bad) for _, value in found[1:])
        assert [value.reason[:14] for _, value in found[1:]] == ["not valid JSON", "not valid UTF-", "not valid JSON"]

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        found = of_file(tmp_path, "a.txt", b"fine\n\xff\xff\n")
        assert isinstance(found[1][1], Bad)
        assert "UTF-8" in found[1][1].reason

    GBK = "你好世界".encode("gbk")

    @pytest.mark.parametrize("gz", ["", ".gz"])
    @pytest.mark.parametrize(
        ("name", "data", "place"),
        [
            ("a.csv", b"id,prompt\n1,fine\n2," + GBK + b"\n3,fine\n", "line 3: .*byte 0xc4 at column 3"),
            ("a.tsv", b"id\tprompt\n1\tfine\n2\t" + GBK + b"\n3\tfine\n", "line 3: .*byte 0xc4 at column 3"),
            ("a.csv", b'id,prompt\n1,fine\n2,"one\n' + GBK + b'"\n3,fine\n', "line 3: .*byte 0xc4 at column 1"),
            ("a.jsonl", b'{"a": 1}\n{"a": "' + GBK + b'"}\n{"a": 2}', "line 2: .*byte 0xc4 at column 8"),
            ("a.txt", b"fine\n\xc3\xa9 " + GBK + b"\nfine", "line 2: .*byte 0xc4 at column 3"),
            ("a.jsonl", b'{"a": 1}\n{"a": "\\ud83d"}\n{"a": 2}', "line 2: .*half of a character"),
            ("a.json", b'[{"a": 1}, {"a": "\\udc00\\ud83d"}, {"a": 2}]', "item 2: .*half of a character"),
            ("a.jsonl", b'{"a": 1}\n{"a": "\xed\xa0\xbd"}\n{"a": 2}', "line 2: .*byte 0xed at column 8"),
        ],
    )
    def test_bad_bytes_spoil_their_row_and_are_told_with_their_place(
        self, tmp_path: Path, name: str, data: bytes, place: str, gz: str
    ) -> None:
        found = of_file(tmp_path, name + gz, gzip.compress(data) if gz else data)
        bad = [str(value) for _, value in found if isinstance(value, Bad)]
        assert len(bad) == 1
        assert re.search(place, bad[0])
        assert len(found) == 3

    @pytest.mark.parametrize(
        ("name", "data", "complaint"),
        [
            ("a.json", b'[{"a": 1},\n{"a": "' + GBK + b'"}]', "line 2, column 8: byte 0xc4 is not valid UTF-8"),
            ("a.json", b'[{"a": "' + b"x" * 200_000 + b'"},\n{"a": "\xff"}]', "line 2, column 8: byte 0xff"),
            ("a.json", b'[{"a": "\xe4\xbd', "line 1, column 9: byte 0xe4 is not valid UTF-8"),
            ("a.csv", GBK + b",b\n1,2\n", "header that cannot be read: line 1: .*byte 0xc4 at column 1"),
        ],
    )
    def test_files_that_are_in_another_encoding_are_refused(
        self, tmp_path: Path, name: str, data: bytes, complaint: str
    ) -> None:
        with pytest.raises(InvalidInput, match=complaint):
            of_file(tmp_path, name, data)

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="not there"):
            list(rows.records(tmp_path / "nowhere.jsonl"))
        with pytest.raises(InvalidInput, match="cannot be read"):
            of_file(tmp_path, "a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000)[:40])
        with pytest.raises(InvalidInput, match="not a valid Parquet"):
            of_file(tmp_path, "a.parquet", b"PAR1 and nothing else PAR1")
