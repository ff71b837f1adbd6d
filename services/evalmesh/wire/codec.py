"""Domain values as JSON: records of the run store, and the rows of objects.

The shapes are the dataclasses of `domain`; unknown fields are skipped, so that a newer writer does not break an
older reader. `1` stays an int and `1.0` a float. JSON has no infinities: they are written as null, which a reader
of a float field then refuses.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from evalmesh.domain.errors import InternalError
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.run import Run

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


# Building a decoder costs 100 times one decoding.
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder


def encode_json(value: object) -> bytes:
    """Compact JSON of a dataclass, or of plain containers of them."""
    return _encoder.encode(value)


def decode_json(kind: type[T], data: bytes, key: str = "") -> T:
    """The value behind JSON. Raises `InternalError` that names `key` when the bytes are no such value."""
    try:
        value: T = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _corrupt(kind, key, error) from error
    return value


def encode_rows(rows: Iterable[object]) -> bytes:
    """JSON lines: one row each, every line ended."""
    return _encoder.encode_lines(rows)


def decode_rows(kind: type[T], data: bytes, key: str = "") -> list[T]:
    """All rows of JSON lines. Raises `InternalError` that names `key` and the line."""
    try:
        rows: list[T] = _decoder(kind).decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Once more, slowly, for the number of the line that is wrong.
        return list(iter_rows(kind, data, key))
    return rows


def iter_rows(kind: type[T], data: bytes, key: str = "") -> Iterator[T]:
    """Rows of JSON lines, one at a time; blank lines are skipped. Errors as `decode_rows`."""
    decode = _decoder(kind).decode
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row: T = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _corrupt(kind, f"{key or 'rows'}, line {number}", error) from error
        yield row


def encode_run(run: Run) -> bytes:
    """The run record."""
    return encode_json(run)


def decode_run(data: bytes, key: str = "") -> Run:
    """The run record back. Raises `InternalError`."""
    return decode_json(Run, data, key)


def encode_load_test(load_test: LoadTest) -> bytes:
    """The record of a load test."""
    return encode_json(load_test)


def decode_load_test(data: bytes, key: str = "") -> LoadTest:
    """The record of a load test back. Raises `InternalError`."""
    return decode_json(LoadTest, data, key)


def _corrupt(kind: Any, key: str, error: Exception) -> InternalError:
    what = getattr(kind, "__name__", str(kind))
    where = f" at {key}" if key else ""
    if isinstance(error, msgspec.ValidationError):
        # Whole JSON, so nothing was damaged on the way: it means more, or something else, than we know.
        message = (
            f"The record{where} is no {what} that this evalmesh knows: {error}. If a newer evalmesh wrote it, "
            "read it with that version; otherwise start the run anew."
        )
    else:
        message = f"The record{where} is not a valid {what}: {error}."
    return InternalError(message, {"key": key, "type": what})
