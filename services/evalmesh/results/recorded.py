"""Completions made elsewhere: matched to planned requests instead of asking a model.

A row is `{"id": ...}` or `{"index": ..., "subset": ...}` (subset may be left out where there is one), optionally
`repeat`, and the text as `text`, `completion`, `output`, `prediction` or `response`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import Request
from evalmesh.domain.sample import Sample

TEXT_KEYS = ("text", "completion", "output", "prediction", "response")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class RecordedCompletions:
    """All rows of an imported file, by what they answer."""

    def __init__(self, data: bytes) -> None:
        self._by_id: dict[tuple[str, int], str] = {}
        self._by_index: dict[tuple[str, int, int], str] = {}
        for number, row in _rows(data):
            self._add(number, row)

    def _add(self, number: int, row: Mapping[str, Any]) -> None:
        text = next((row[key] for key in TEXT_KEYS if isinstance(row.get(key), str)), None)
        if text is None:
            raise _wrong(number, f"has no text; give it as one of {', '.join(TEXT_KEYS)}")
        repeat = row.get("repeat", 0)
        if not isinstance(repeat, int):
            raise _wrong(number, f"has repeat = {repeat!r}; it must be a whole number")
        if isinstance(row.get("id"), str | int):
            key = (str(row["id"]), repeat)
            if key in self._by_id:
                raise _wrong(number, f"is the second one for id {key[0]!r}, repeat {repeat}")
            self._by_id[key] = text
        elif isinstance(row.get("index"), int):
            place = (str(row.get("subset", "")), row["index"], repeat)
            if place in self._by_index:
                raise _wrong(number, f"is the second one for index {place[1]}, subset {place[0]!r}, repeat {repeat}")
            self._by_index[place] = text
        else:
            raise _wrong(number, "has neither an id nor an index (a whole number)")

    def __len__(self) -> int:
        return len(self._by_id) + len(self._by_index)

    def answer(self, sample: Sample, request: Request) -> Completion:
        """The completion for a request; an error of class `missing` when the file has none."""
        text = self._by_id.get((sample.id, request.repeat))
        if text is None and "id" in sample.metadata:
            text = self._by_id.get((sample.metadata["id"], request.repeat))
        for subset in (sample.subset, ""):
            if text is None:
                text = self._by_index.get((subset, sample.index, request.repeat))
        if text is None:
            error = CompletionError("missing", f"the given completions have no row for {sample.id}#{request.repeat}")
            return Completion(sample_id=sample.id, repeat=request.repeat, digest=request.digest, error=error)
        return Completion(
            sample_id=sample.id, repeat=request.repeat, digest=request.digest, text=text, finish_reason="stop"
        )


def _rows(data: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _wrong(number, f"is not a JSON object: {error}") from error


def _wrong(line: int, problem: str) -> InvalidInput:
    return InvalidInput(f"completions, line {line} {problem}.", {"field": "completions", "value": f"line {line}"})
