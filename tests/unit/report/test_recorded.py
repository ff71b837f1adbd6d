"""Completions made elsewhere, row by row, from a file of any size."""

import io
import json

import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import Request
from evalmesh.domain.sample import Sample
from evalmesh.results.recorded import RecordedCompletions


def of(*rows: object, before: bytes = b"") -> RecordedCompletions:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return RecordedCompletions(io.BytesIO(before + b"\n".join(lines)))


def answer(recorded: RecordedCompletions, index: int, subset: str = "default", repeat: int = 0) -> str | None:
    sample = Sample(f"{subset}/{index}", index, subset, input="?", target=("A",))
    completion = recorded.answer(sample, Request(sample.id, repeat, "chat", "d"))
    return completion.text if completion.error is None else None


def test_rows_are_found_by_id_and_by_index_in_any_order():
    recorded = of(
        {"index": 1, "text": "one"},
        b"",
        {"id": "default/0", "completion": "zero"},
        {"index": 1, "subset": "other", "output": "önë"},
        {"index": 1, "repeat": 1, "response": "again"},
    )
    assert len(recorded) == 4
    assert [answer(recorded, 0), answer(recorded, 1), answer(recorded, 1, "other")] == ["zero", "one", "önë"]
    assert [answer(recorded, 1, repeat=1), answer(recorded, 2)] == ["again", None]


def test_windows_files_are_read():
    recorded = of({"index": 0, "text": "a"}, {"index": 1, "text": "b"}, before=b"\xef\xbb\xbf")
    assert [answer(recorded, 0), answer(recorded, 1)] == ["a", "b"]
    recorded = of(b'{"index": 0, "text": "a"}\r', b'{"index": 1, "text": "b"}\r')
    assert [answer(recorded, 0), answer(recorded, 1)] == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"[" * 100_000, "is not a JSON object"),
        (b'{"index": 0, "text": "x", "more": ' + b'{"a":' * 100_000, "is not a JSON object"),
        (b'{"index": ' + b"9" * 10_000 + b', "text": "x"}', ""),
        (b'{"id": "x", "text": "\xff"}', "is not a JSON object"),
        (b"[]", "is not a JSON object"),
        (b'{"index": 0}', "has no text"),
        (b'{"text": "x"}', "neither an id nor an index"),
        (b'{"index": 0, "text": "x", "repeat": "y"}', "repeat"),
        (b'{"index": 1, "text": "x"}', "is the second one"),
        (b'{"index": 0, "text": "' + b"x" * (65 << 20) + b'"}', "is longer than 64 MiB"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(row, problem):
    with pytest.raises(InvalidInput, match="line 2 ") as caught:
        of({"index": 1, "text": "fine"}, row)
    assert problem in caught.value.message
    assert len(caught.value.message) < 1000
