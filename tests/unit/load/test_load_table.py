import numpy as np
import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.load.measure.records import FIELDS, HEADER, MAGIC, NAN, RECORD, Flag, Outcome
from evalmesh.load.measure.table import DTYPE, Rows, by_class, concatenate, is_warmup, read_records

NAMES = [name for name, _ in FIELDS]


def packed(**values: object) -> bytes:
    return RECORD.pack(*(values.get(name, 0) for name in NAMES))


def file_of(*records: bytes) -> bytes:
    return HEADER.pack(MAGIC, RECORD.size) + b"".join(records)


def test_a_record_is_read_as_it_was_packed() -> None:
    values = dict(zip(NAMES, range(1, len(NAMES) + 1), strict=True)) | {"due_s": 0.25, "itl_p99_s": 0.5, "last_s": NAN}
    table = read_records(file_of(packed(**values)))
    assert table.dtype == DTYPE
    assert DTYPE.itemsize == RECORD.size
    np.testing.assert_equal({name: table[name][0] for name in NAMES}, values)


def test_a_record_that_was_cut_is_left_out() -> None:
    whole = file_of(packed(index=1), packed(index=2))
    assert read_records(whole[:-1])["index"].tolist() == [1]
    assert len(read_records(whole[: HEADER.size])) == 0
    assert len(read_records(whole[:3])) == 0
    assert len(read_records(b"")) == 0


@pytest.mark.parametrize("data", [b"nothing of the kind", HEADER.pack(MAGIC, 8) + bytes(100), b"PK\x03\x04"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="no file of request records"):
        read_records(data)


def test_generators_are_joined_and_read_in_order_of_due() -> None:
    parts = [
        read_records(file_of(packed(index=0, due_s=0.0), packed(index=2, due_s=2.0))),
        read_records(file_of()),
        read_records(file_of(packed(index=1, due_s=1.0), packed(index=3, due_s=NAN, outcome=Outcome.UNSENT))),
    ]
    rows = Rows(concatenate(parts)).in_order_of("due_s")
    assert rows["index"].tolist() == [0, 1, 2, 3]
    assert rows.where(rows["index"] > 1).where(np.array([False, True]))["index"].tolist() == [3]
    assert len(concatenate([])) == 0


def test_failures_are_counted_by_class() -> None:
    outcomes = [
        packed(outcome=Outcome.OK, status=200),
        packed(outcome=Outcome.HTTP, status=429),
        packed(outcome=Outcome.HTTP, status=429),
        packed(outcome=Outcome.HTTP, status=500),
        packed(outcome=Outcome.TRUNCATED, status=200),
        packed(outcome=Outcome.UNSENT),
        packed(outcome=Outcome.SKIPPED),
    ]
    rows = Rows(read_records(file_of(*outcomes)))
    assert by_class(rows) == {"http_429": 2, "http_500": 1, "truncated": 1}
    assert not is_warmup(rows).any()
    assert is_warmup(Rows(read_records(file_of(packed(flags=Flag.WARMUP | Flag.USAGE))))).all()
