"""What every data set source owes: the right files, every row once, and errors that say where it looked."""

import gzip
import io
import json
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.errors import InvalidInput, NotFound

ROWS = [{"question": "café?", "answer": 1}, {"question": 'say "hi", twice', "answer": 2}]


@pytest.fixture
def source():
    return LocalDatasets()


def write(path, data=None):
    """Writes ROWS, or the given text or bytes, in the form that the file's name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if data is None and name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    if data is None and name.endswith(".jsonl"):
        data = "".join(json.dumps(row) + "\n" for row in ROWS)
    elif data is None and name.endswith(".json"):
        data = json.dumps(ROWS)
    elif data is None:
        mark = "\t" if name.endswith(".tsv") else ","
        data = f'question{mark}answer\ncafé?{mark}1\n"say ""hi"", twice"{mark}2\n'
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def query(**wishes):
    return DatasetQuery(**{"name": "toy", "hub_id": "org/toys", "split": "test", **wishes})


def pairs(source, *of):
    """Numbers and rows; a row that cannot be read comes as its place and the reason."""
    for number, row, where in source.rows(*of):
        yield number, f"{where}: {row}" if isinstance(row, str) else row


def plain(rows):
    return [(number, row if isinstance(row, str) else {k: str(v) for k, v in row.items()}) for number, row in rows]


EXPECTED = [(0, {"question": "café?", "answer": "1"}), (1, {"question": 'say "hi", twice', "answer": "2"})]


# Formats


@pytest.mark.parametrize(
    "name", [e + gz for e in ("jsonl", "json", "csv", "tsv") for gz in ("", ".gz")] + ["parquet", "CSV"]
)
def test_every_format_gives_the_same_rows(source, tmp_path, name):
    path = write(tmp_path / f"test.{name}")
    assert plain(pairs(source, [path])) == EXPECTED
    assert list(source.marks([path, path])) == [None] * 4


def test_a_gzipped_parquet_file_is_read_too(source, tmp_path):
    path = write(tmp_path / "test.parquet")
    packed = write(tmp_path / "test.parquet.gz", path.read_bytes())
    assert plain(pairs(source, [packed])) == EXPECTED
    assert list(source.marks([packed])) == [None] * 2


def test_row_numbers_go_on_over_files(source, tmp_path):
    files = [write(tmp_path / "a.jsonl"), write(tmp_path / "b.csv")]
    assert [number for number, _ in pairs(source, files)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text",
    ['{"examples": [{"a": 1}]}', '{"version": 2, "data": [{"a": 1}]}', '{"a": 1}\n{"a": 1}\n', '\ufeff[{"a": 1}]'],
)
def test_json_may_be_a_list_an_object_around_one_or_lines(source, tmp_path, text):
    rows = [row for _, row in pairs(source, [write(tmp_path / "x.json", text)])]
    assert rows[0] == {"a": 1}


def test_bad_json_lines_are_reasons_and_the_rest_is_read(source, tmp_path):
    data = b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n[1, 2]\n{"a": "\xff"}\n' + b"[" * 100_000 + b'\n{"a": 2}'
    rows = list(pairs(source, [write(tmp_path / "x.jsonl", data)]))
    assert len(list(source.marks([tmp_path / "x.jsonl"]))) == 6
    assert rows[0] == (0, {"a": 1})
    assert rows[1][1].startswith("x.jsonl: line 3: not valid JSON: ")
    assert rows[2] == (2, "x.jsonl: line 4: a list, expected an object")
    assert rows[3][1].startswith("x.jsonl: line 5: not valid UTF-8: byte 0xff at column 8")
    assert rows[4][1] == "x.jsonl: line 6: not valid JSON: nested too deeply"
    assert rows[5] == (5, {"a": 2})


def test_bad_csv_records_are_reasons_and_the_rest_is_read(source, tmp_path):
    data = b'\xef\xbb\xbfa,b\n1,2\n\n1,2,3\n"x\ny",5\n"x"z,6\ncaf\xe9,7\n8,9\n'
    rows = list(pairs(source, [write(tmp_path / "x.csv", data)]))
    assert rows[0] == (0, {"a": "1", "b": "2"})
    assert rows[1] == (1, "x.csv: line 4: 3 fields, expected 2 (a, b)")
    assert rows[2] == (2, {"a": "x\ny", "b": "5"})
    assert rows[3][1].startswith("x.csv: line 7: ',' expected after '\"'")
    assert rows[4] == (4, "x.csv: line 8: not valid UTF-8: byte 0xe9 at column 4; save the file as UTF-8")
    assert rows[5] == (5, {"a": "8", "b": "9"})


def test_a_quotation_that_never_ends_does_not_swallow_rows_in_silence(source, tmp_path):
    rows = list(pairs(source, [write(tmp_path / "x.csv", 'a,b\n1,2\n"3,4\n5,6\n')]))
    assert rows == [
        (0, {"a": "1", "b": "2"}),
        (1, "x.csv: line 3: unexpected end of data (is a quotation mark missing?)"),
    ]


def test_a_file_without_header_takes_the_given_columns(source, tmp_path):
    bare = write(tmp_path / "bare.csv", "what?,1\nwhy?,2\n")
    headed = write(tmp_path / "headed.csv", "Question, Answer\nwhat?,1\nwhy?,2\n")
    columns = ("question", "answer")
    assert [row["question"] for _, row in pairs(source, [bare], columns)] == ["what?", "why?"]
    assert [row["Question"] for _, row in pairs(source, [headed], columns)] == ["what?", "why?"]


def test_a_field_longer_than_the_csv_modules_own_limit_is_read(source, tmp_path):
    ((_, row),) = pairs(source, [write(tmp_path / "x.csv", "a,b\n" + "x" * 300_000 + ",1\n")])
    assert len(row["a"]) == 300_000


def test_rows_are_read_as_they_are_asked_for(source, tmp_path):
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n' * 100_000)
    rows = pairs(source, [path])
    assert next(rows) == (0, {"a": 1})
    rows.close()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.json", "[1", "'.*x.json' is not valid JSON: .* Repair the file"),
        ("x.json", '{"a": {"b": 1},\n"c": 2}', "holds no list of rows: expected a list of objects"),
        ("x.parquet", "no parquet", "is not a valid Parquet file: .* Fetch it again"),
        ("x.txt", "a", "cannot be read as rows: file names end in one of jsonl, jsonl.gz"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_named(source, tmp_path, name, data, message):
    with pytest.raises(InvalidInput, match=message):
        list(pairs(source, [write(tmp_path / name, data)]))


def test_a_cut_off_gzip_file_is_named(source, tmp_path):
    path = write(tmp_path / "x.jsonl.gz", '{"a": 1}\n' * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match=r"x.jsonl.gz' cannot be read: .* Check that the file is whole"):
        list(pairs(source, [path]))


def test_a_file_that_went_away_is_named(source, tmp_path):
    with pytest.raises(InvalidInput, match=r"gone.jsonl' cannot be read: "):
        list(pairs(source, [tmp_path / "gone.jsonl"]))


# Layouts

LAYOUTS = [
    "easy/test-00000-of-00001.parquet",
    "easy/test-00000-of-00001-4f3a9b.parquet",
    "easy/test.jsonl",
    "easy/test/0000.parquet",
    "easy_test.jsonl",
    "easy-test.csv",
    "test/easy_test.csv",
    "test/easy.csv.gz",
    "data/test/easy_test.csv",
    "data/easy/test-00000-of-00001.parquet",
    "easy_test_sample.jsonl",
    "test_sample/easy_test.csv",
    "test_sample/easy.csv",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subset_is_found_in_every_layout(source, tmp_path, layout):
    path = write(tmp_path / layout)
    for other in ("hard", "easy_2", "uneasy"):
        write(tmp_path / layout.replace("easy", other))
    write(tmp_path / layout.replace("test", "train"))
    write(tmp_path / "README.md", "no data")
    wanted = query(local_path=str(tmp_path), subset="easy")
    assert list(source.resolve(wanted)) == [path]
    assert list(source.subsets(query(local_path=str(tmp_path)))) == ["easy", "easy_2", "hard", "uneasy"]


@pytest.mark.parametrize(
    "layout",
    [
        "test.jsonl",
        "test-00000-of-00001.parquet",
        "data/test-00000-of-00001-4f3a9b.parquet",
        "data/test.csv",
        "test/0000.parquet",
        "test_sample.jsonl",
    ],
)
def test_a_data_set_without_subsets_is_found_in_every_layout(source, tmp_path, layout):
    path = write(tmp_path / layout)
    write(tmp_path / layout.replace("test", "train"))
    assert list(source.resolve(query(local_path=str(tmp_path)))) == [path]
    assert list(source.resolve(query(local_path=str(tmp_path), subset="main", only_subset=True))) == [path]
    assert list(source.subsets(query(local_path=str(tmp_path)))) == []
    with pytest.raises(NotFound):
        source.resolve(query(local_path=str(tmp_path), subset="main"))


def test_parts_come_in_order_and_none_may_be_missing(source, tmp_path):
    paths = [write(tmp_path / f"test-{n:05}-of-00012.parquet") for n in range(12)]
    assert list(source.resolve(query(local_path=str(tmp_path)))) == paths
    paths[4].unlink()
    with pytest.raises(NotFound, match="is not whole: the file names speak of 12 parts, 11 are there"):
        source.resolve(query(local_path=str(tmp_path)))


def test_a_whole_split_goes_before_a_sample_of_it(source, tmp_path):
    write(tmp_path / "test_sample.jsonl")
    whole = write(tmp_path / "data" / "test.jsonl")
    assert list(source.resolve(query(local_path=str(tmp_path)))) == [whole]


def test_val_and_validation_are_one_split(source, tmp_path):
    path = write(tmp_path / "validation.jsonl")
    assert list(source.resolve(query(local_path=str(tmp_path), split="val"))) == [path]


def test_two_files_that_fit_alike_are_an_error_that_names_both(source, tmp_path):
    write(tmp_path / "test.jsonl")
    write(tmp_path / "test.csv")
    message = "More than one file fits split 'test' of benchmark 'toy' in .*: test.csv, test.jsonl. Keep one"
    with pytest.raises(NotFound, match=message):
        source.resolve(query(local_path=str(tmp_path)))


# Places


def test_a_single_file_is_taken_as_it_is(source, tmp_path):
    path = write(tmp_path / "mine.csv")
    assert list(source.resolve(query(local_path=str(path)))) == [path]
    assert list(source.subsets(query(local_path=str(path)))) == []


def test_a_single_file_never_serves_for_solved_examples(source, tmp_path):
    path = write(tmp_path / "mine.csv")
    message = "is a single file, so benchmark 'toy' has no split 'dev' to take solved examples from; give the folder"
    with pytest.raises(NotFound, match=message):
        source.resolve(query(local_path=str(path), split="dev", few_shot=True))


def test_a_single_file_serves_for_one_of_several_subsets_only_if_named_so(source, tmp_path):
    path = write(tmp_path / "easy_questions.csv")
    assert list(source.resolve(query(local_path=str(path), subset="easy"))) == [path]
    with pytest.raises(NotFound, match="its name does not say that it holds subset 'hard'"):
        source.resolve(query(local_path=str(path), subset="hard"))


def test_a_single_file_of_another_kind_is_refused(source, tmp_path):
    path = write(tmp_path / "mine.xlsx", "x")
    with pytest.raises(InvalidInput, match=r"mine.xlsx' cannot be read as rows: file names end in one of jsonl"):
        source.resolve(query(local_path=str(path)))


@pytest.mark.parametrize(
    "place",
    [
        "toy/test.jsonl",
        "org/toys/test.jsonl",
        "toys/test.jsonl",
        "datasets--org--toys/snapshots/abc123/test.jsonl",
    ],
)
def test_the_data_set_folder_and_caches_are_searched(source, tmp_path, place):
    path = write(tmp_path / place)
    assert list(source.resolve(query(dataset_dir=str(tmp_path)))) == [path]


def test_the_snapshot_of_the_revision_is_taken(source, tmp_path):
    repo = tmp_path / "datasets--org--toys"
    old, new = write(repo / "snapshots/aaa/test.jsonl"), write(repo / "snapshots/bbb/test.jsonl")
    write(repo / "refs/main", "bbb\n")
    assert list(source.resolve(query(dataset_dir=str(tmp_path)))) == [new]
    assert list(source.resolve(query(dataset_dir=str(tmp_path), revision="aaa"))) == [old]
    with pytest.raises(NotFound):
        source.resolve(query(dataset_dir=str(tmp_path), revision="../../toy"))


def test_local_path_goes_before_everything_else(source, tmp_path):
    write(tmp_path / "dir/toy/test.jsonl")
    path = write(tmp_path / "mine/test.jsonl")
    wanted = query(local_path=str(tmp_path / "mine"), dataset_dir=str(tmp_path / "dir"), packaged="starter_math.jsonl")
    assert list(source.resolve(wanted)) == [path]


def test_a_packaged_file_needs_no_path(source):
    (path,) = source.resolve(query(packaged="starter_math.jsonl"))
    assert path.name == "starter_math.jsonl"
    with pytest.raises(NotFound, match=r"'none\.jsonl' is missing from this installation of evalmesh"):
        source.resolve(query(packaged="none.jsonl"))


def test_what_is_not_found_is_told_with_what_was_looked_for_and_what_is_there(source, tmp_path):
    for number in range(12):
        write(tmp_path / f"part{number:02}.jsonl")
    with pytest.raises(NotFound) as caught:
        source.resolve(query(local_path=str(tmp_path), subset="easy"))
    message = caught.value.message
    assert "No files found for split 'test' of benchmark 'toy', subset 'easy'." in message
    assert f"Looked in '{tmp_path}' for easy/test-00000-of-00001, easy/test, " in message
    assert "data files there: part00.jsonl, part01.jsonl, " in message
    assert message.count(".jsonl") == 8
    assert "and 4 more" in message
    assert '--dataset-args \'{"toy": {"local_path": "FILE_OR_FOLDER"}}\'' in message
    assert caught.value.details["field"] == "local_path"


def test_without_any_place_the_error_says_how_to_name_one(source, tmp_path):
    with pytest.raises(NotFound, match=r"split 'test' of benchmark 'toy'\. Name the data with --data"):
        source.resolve(query())
    with pytest.raises(NotFound, match=f"There is no folder 'toy', 'org/toys' in '{tmp_path}'"):
        source.resolve(query(dataset_dir=str(tmp_path)))
    with pytest.raises(
        NotFound, match="local_path '/no/such' of benchmark 'toy' does not exist; name a file or folder"
    ):
        source.resolve(query(local_path="/no/such"))


@pytest.mark.parametrize("hub_id", ["../secrets", "/etc", "a//b", "a/../b"])
def test_a_hub_id_never_leaves_the_folder(source, tmp_path, hub_id):
    with pytest.raises(InvalidInput, match="is no hub id"):
        source.resolve(query(hub_id=hub_id, dataset_dir=str(tmp_path)))


# Files that rows name


def test_rows_name_files_relative_to_their_data_file(source, tmp_path):
    files = [write(tmp_path / "data" / "test.jsonl"), write(tmp_path / "data" / "test2.jsonl")]
    write(tmp_path / "data" / "pictures" / "a.png", b"a picture")
    assert source.read_media(files, "pictures/a.png") == b"a picture"
    assert source.read_media(files, str(tmp_path / "data" / "pictures" / "a.png")) == b"a picture"
    with pytest.raises(ValueError, match=r"the file 'pictures/b\.png', which is not in the folder of the data"):
        source.read_media(files, "pictures/b.png")


@pytest.mark.parametrize(
    "name", ["../secret.png", "pictures/../../secret.png", "out.png", "/etc/hostname", "linked/secret.png", "a\0b"]
)
def test_no_row_reads_outside_the_folder_of_its_data(source, tmp_path, name):
    files = [write(tmp_path / "data" / "test.jsonl")]
    secret = write(tmp_path / "secret.png", b"a secret")
    (tmp_path / "data" / "out.png").symlink_to(secret)
    (tmp_path / "data" / "linked").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"lies outside the folder of the data|null byte"):
        source.read_media(files, name)


def test_a_snapshot_of_the_hub_cache_links_to_its_own_blobs_only(source, tmp_path):
    repo = tmp_path / "datasets--org--toys"
    snapshot = repo / "snapshots" / "abc"
    files = [write(snapshot / "data" / "test.jsonl")]
    (snapshot / "data" / "a.png").symlink_to(write(repo / "blobs" / "123", b"a picture"))
    (snapshot / "data" / "b.png").symlink_to(write(tmp_path / "datasets--org--other" / "blobs" / "4", b"a secret"))
    assert source.read_media(files, "a.png") == b"a picture"
    with pytest.raises(ValueError, match="lies outside"):
        source.read_media(files, "b.png")


def test_a_file_that_is_too_large_is_not_read(source, tmp_path):
    files = [write(tmp_path / "test.jsonl")]
    with (tmp_path / "film.mp4").open("wb") as film:
        film.truncate((64 << 20) + 1)
    with pytest.raises(ValueError, match=r"has 67108865 bytes; 67108864 is the most"):
        source.read_media(files, "film.mp4")
    with pytest.raises(ValueError, match="cannot be read: File name too long"):
        source.read_media(files, "x" * 5000)


def test_rows_with_pictures_are_read_a_few_at_a_time(source, tmp_path):
    rows = [{"image": {"bytes": bytes([number]) * 100_000, "path": None}} for number in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    found = [row["image"]["bytes"] for _, row in pairs(source, [tmp_path / "test.parquet"])]
    assert found == [row["image"]["bytes"] for row in rows]


# Arrow files and archives


@pytest.mark.parametrize("form", [pa.ipc.new_file, pa.ipc.new_stream], ids=["file", "stream"])
def test_both_forms_of_arrow_are_read_as_save_to_disk_leaves_them(source, tmp_path, form):
    table = pa.Table.from_pylist(ROWS)
    folder = tmp_path / "toy" / "test"
    folder.mkdir(parents=True)
    for part in range(2):
        with form(folder / f"data-0000{part}-of-00002.arrow", table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text("{}")
    files = source.resolve(query(dataset_dir=str(tmp_path)))
    assert [path.name for path in files] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert [row["question"] for _, row in pairs(source, files)] == [row["question"] for row in ROWS] * 2
    assert len(list(source.marks(files))) == 4


def test_an_arrow_file_that_is_none_is_refused_by_its_name(source, tmp_path):
    path = write(tmp_path / "test.arrow", b"ARROW1 no such thing")
    with pytest.raises(InvalidInput, match=r"test\.arrow' is not a valid Arrow file"):
        list(source.rows([path]))
    with pytest.raises(InvalidInput, match=r"test\.arrow' is not a valid Arrow file"):
        list(source.marks([path]))


@pytest.fixture(params=["zip", "tar", "tar.gz"])
def packed(request, tmp_path):
    """Packs files by name into an archive."""

    def pack(files):
        path = tmp_path / f"rows.{request.param}"
        if request.param == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
            return path
        with tarfile.open(path, "w:gz" if request.param.endswith("gz") else "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return pack


def test_an_archive_is_a_folder(tmp_path, packed):
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    path = packed({"a/test.jsonl": data, "b/test.jsonl": data * 2, "a/readme.txt": b"no rows"})
    source = LocalDatasets(unpack_dir=tmp_path / "unpacked")
    assert list(source.subsets(query(local_path=str(path)))) == ["a", "b"]
    files = source.resolve(query(local_path=str(path), subset="b"))
    assert plain(pairs(source, files)) == plain([*enumerate(ROWS * 2)])
    with pytest.raises(NotFound, match=r"rows.*data files there: a/test\.jsonl, b/test\.jsonl"):
        source.resolve(query(local_path=str(path), subset="c"))
    assert len([one for one in (tmp_path / "unpacked").iterdir() if one.is_dir()]) == 1


def test_nothing_of_an_archive_lies_outside(tmp_path, packed):
    path = packed(
        {"../test.jsonl": b"{}\n", "/test.jsonl": b"{}\n", "a/../../test.jsonl": b"{}\n", "b/test.jsonl": b"{}"}
    )
    source = LocalDatasets(unpack_dir=tmp_path / "unpacked")
    assert list(source.subsets(query(local_path=str(path)))) == ["b"]
    assert [one.name for one in tmp_path.rglob("test.jsonl")] == ["test.jsonl"]


def test_an_archive_that_is_broken_is_refused_by_its_name(tmp_path, packed):
    path = packed({"test.jsonl": b"{}\n" * 100})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InvalidInput, match=r"rows.*cannot be unpacked"):
        LocalDatasets(unpack_dir=tmp_path / "unpacked").resolve(query(local_path=str(path)))
