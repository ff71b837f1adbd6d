"""Rows out of Parquet and Arrow files, a batch at a time."""

from collections.abc import Iterator
from itertools import repeat
from typing import IO, Any

_BATCH_ROWS = 256
_BATCH_BYTES = 32 << 20
_ARROW_FILE = b"ARROW1"
"""Begins the form with an index at its end; the other one is a stream."""


class UnreadableError(Exception):
    """The file is not what its name says, or not whole."""


def parquet_rows(file: IO[bytes]) -> Iterator[Any]:
    """Raises `UnreadableError`."""
    import pyarrow as pa  # noqa: PLC0415 - 100 ms and 60 MB that only users of such files should pay
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_batch_rows(parquet.metadata)):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise UnreadableError(str(error)) from error


def parquet_marks(file: IO[bytes]) -> Iterator[None]:
    """One for each row, none decoded. Raises `UnreadableError`."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        yield from repeat(None, pq.read_metadata(file).num_rows)
    except pa.ArrowException as error:
        raise UnreadableError(str(error)) from error


def arrow_rows(file: IO[bytes]) -> Iterator[Any]:
    """Of both forms that Arrow files have. Raises `UnreadableError`."""
    for batch in _arrow_batches(file):
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield from batch.slice(start, _BATCH_ROWS).to_pylist()


def arrow_marks(file: IO[bytes]) -> Iterator[None]:
    """One for each row, none decoded. Raises `UnreadableError`."""
    for batch in _arrow_batches(file):
        yield from repeat(None, batch.num_rows)


def _arrow_batches(file: IO[bytes]) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    start = file.read(len(_ARROW_FILE))
    file.seek(0)
    try:
        if start == _ARROW_FILE:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
        else:
            yield from pa.ipc.open_stream(file)
    except pa.ArrowException as error:
        raise UnreadableError(str(error)) from error


def _batch_rows(metadata: Any) -> int:
    """Rows to hold at a time: few where they are large, as rows with images are."""
    size_bytes: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size_bytes, 1)))
