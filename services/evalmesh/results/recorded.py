"""Completions made elsewhere: matched to planned requests instead of asking a model.

A row is `{"id": ...}` or `{"index": ..., "subset": ...}` (subset may be left out where there is one), optionally
`repeat`, and the answer (`results.recorded_rows`); or what other tools write (`results.recorded_layouts`).

The texts stay in a file; in memory is only where each of them lies.
"""

import asyncio
import tempfile
import threading
from array import array
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import IO, Any

import msgspec

from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import Request
from evalmesh.domain.sample import Sample
from evalmesh.ports.object_store import ObjectStore
from evalmesh.results.recorded_layouts import is_repeated, own_rows
from evalmesh.results.recorded_rows import UnusableRow, check_row, completion_of

MOST_BYTES = 1 << 30
"""Of one file."""
_MOST_ROWS = 4_000_000
"""Each takes about 200 bytes of memory."""
_MOST_LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SHOWN = 5
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class RecordedCompletions:
    """All rows of an imported file, by what they answer."""

    def __init__(self, file: IO[bytes]) -> None:
        """Reads the open file through, and from it ever after. Raises `InvalidInput` that names the line."""
        self._file = file
        self._reading = threading.Lock()  # benchmarks are planned side by side, each in a thread
        self._by_id: dict[tuple[str, int], int] = {}
        self._by_index: dict[tuple[str, int, int], int] = {}
        self._offsets = array("q")
        """Where each answer's row is in the file, by its number."""
        self._used = bytearray()
        """1 for an answer that some request was given."""
        for number, offset, row in _rows(file):
            for answer in own_rows(row):
                self._add(number, offset, answer, again=is_repeated(row))
            if len(self) > _MOST_ROWS:
                raise _wrong(number, f"is beyond the {_MOST_ROWS} rows of one file; score them in parts")

    def _add(self, number: int, offset: int, row: Mapping[str, Any], *, again: bool) -> None:
        try:
            check_row(row)
        except UnusableRow as error:
            raise _wrong(number, str(error)) from error
        repeat = row.get("repeat", 0)
        if not isinstance(repeat, int):
            raise _wrong(number, f"has repeat = {repr(repeat)[:80]}; it must be a whole number")
        if isinstance(row.get("id"), str | int):
            key = (str(row["id"]), repeat)
            if key in self._by_id:
                raise _wrong(number, f"is the second one for id {key[0][:200]!r}, repeat {repeat}")
            self._by_id[key] = self._placed(offset)
        elif isinstance(row.get("index"), int):
            place = (str(row.get("subset", "")), row["index"], repeat)
            if place in self._by_index and again:
                return
            if place in self._by_index:
                raise _wrong(
                    number, f"is the second one for index {place[1]}, subset {place[0][:200]!r}, repeat {repeat}"
                )
            self._by_index[place] = self._placed(offset)
        else:
            raise _wrong(number, "has neither an id nor an index (a whole number)")

    def _placed(self, offset: int) -> int:
        self._offsets.append(offset)
        self._used.append(0)
        return len(self._offsets) - 1

    def unused(self) -> str:
        """What is in the file and no request was given, in a sentence; empty where there is nothing."""
        count = self._used.count(0)
        if not count:
            return ""
        ids = (f"id {key[0]!r:.80}" for key, number in self._by_id.items() if not self._used[number])
        places = (
            f"index {index}{f' of {subset:.80}' if subset else ''}"
            for (subset, index, _), number in self._by_index.items()
            if not self._used[number]
        )
        shown = ", ".join(islice(chain(ids, places), _SHOWN))
        more = ", ..." if count > _SHOWN else ""
        return f"{count} of {len(self)} given completions match no sample that was asked for: {shown}{more}"

    def __len__(self) -> int:
        return len(self._by_id) + len(self._by_index)

    def answer(self, sample: Sample, request: Request) -> Completion:
        """The completion for a request; an error of class `missing` when the file has none."""
        number = self._by_id.get((sample.id, request.repeat))
        if number is None and "id" in sample.metadata:
            number = self._by_id.get((sample.metadata["id"], request.repeat))
        for subset in (sample.subset, ""):
            if number is None:
                number = self._by_index.get((subset, sample.index, request.repeat))
        if number is None:
            error = CompletionError("missing", f"the given completions have no row for {sample.id}#{request.repeat}")
            return Completion(sample_id=sample.id, repeat=request.repeat, digest=request.digest, error=error)
        with self._reading:
            self._used[number] = 1
            self._file.seek(self._offsets[number])
            line = self._file.readline()
        rows = own_rows(_decode(line.removeprefix(_BOM)))
        return completion_of(next(row for row in rows if row.get("repeat", 0) == request.repeat), request)

    def close(self) -> None:
        """Gives up the file."""
        self._file.close()


async def fetch_recorded(store: ObjectStore, key: str) -> RecordedCompletions:
    """The imported file, in a file of this machine that is gone when closed. Raises `NotFound`, `InvalidInput`."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as what is returned)
    try:
        async for piece in store.stream(key):
            await asyncio.to_thread(file.write, piece)
        return await asyncio.to_thread(RecordedCompletions, file)
    except BaseException:
        file.close()
        raise


def _rows(file: IO[bytes]) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Line number, place in the file, and row."""
    file.seek(0)
    number = offset = 0
    while line := file.readline(_MOST_LINE_BYTES):
        number += 1
        if len(line) == _MOST_LINE_BYTES:
            raise _wrong(number, f"is longer than {_MOST_LINE_BYTES >> 20} MiB")
        if number == 1 and line.startswith(_UTF16):
            raise _wrong(number, "is UTF-16; save the file as UTF-8")
        bare = line.removeprefix(_BOM) if number == 1 else line
        if bare.strip():
            try:
                yield number, offset, _decode(bare)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise _wrong(number, f"is not a JSON object: {error}") from error
        offset += len(line)


def _wrong(line: int, problem: str) -> InvalidInput:
    return InvalidInput(f"completions, line {line} {problem}.", {"field": "completions", "value": f"line {line}"})
