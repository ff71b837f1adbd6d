"""Sample results as Parquet: one row per request, written and read as a stream.

Columns are explained in docs/report-schema.md.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from evalmesh.domain.completion import Completion
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample

ROWS_PER_GROUP = 4096
BYTES_PER_GROUP = 16 * 1024 * 1024
"""A row group is also closed at this much text, so that long answers cost no more memory than many answers."""

SCORE_PREFIX = "score_"

_TEXTS = pa.list_(pa.string())
_BEFORE_SCORES: tuple[tuple[str, pa.DataType], ...] = (
    ("run", pa.string()),
    ("benchmark", pa.string()),
    ("subset", pa.string()),
    ("sample_id", pa.string()),
    ("index", pa.int64()),
    ("repeat", pa.int32()),
    ("input", pa.string()),
    ("target", _TEXTS),
    ("choices", _TEXTS),
    ("prompt", pa.string()),
    ("completion", pa.string()),
    ("reasoning", pa.string()),
    ("finish_reason", pa.string()),
    ("answer", pa.string()),
    ("extractor", pa.string()),
)
_AFTER_SCORES: tuple[tuple[str, pa.DataType], ...] = (
    ("other_scores", pa.string()),
    ("state", pa.string()),
    ("reason", pa.string()),
    ("explanation", pa.string()),
    ("error_class", pa.string()),
    ("error_message", pa.string()),
    ("http_status", pa.int32()),
    ("tries", pa.int32()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("latency_s", pa.float64()),
    ("ttft_s", pa.float64()),
    ("start_time", pa.float64()),
    ("digest", pa.string()),
    ("reused_from", pa.string()),
    ("metadata", pa.string()),
)


def results_schema(score_names: Sequence[str]) -> pa.Schema:
    """The columns; one `score_<name>` per value that the benchmark's scorer gives."""
    scores = [(SCORE_PREFIX + name, pa.float64()) for name in score_names]
    return pa.schema([*_BEFORE_SCORES, *scores, *_AFTER_SCORES])


class ResultsWriter:
    """Writes the results of one benchmark, shard by shard, holding at most one row group in memory."""

    def __init__(self, sink: str | Path | BinaryIO, *, run: str, benchmark: str, score_names: Sequence[str]) -> None:
        """Opens the sink.

        Args:
            sink: A local file, or a binary sink such as `io.BytesIO`; a given sink is left open by `close`.
            run: Id of the run.
            benchmark: Name of the benchmark.
            score_names: Keys of `Score.values` that get a column each. Values under other keys are kept as a JSON
                object in the column `other_scores`.
        """
        self._run = run
        self._benchmark = benchmark
        self._score_names = tuple(dict.fromkeys(score_names))
        self._schema = results_schema(self._score_names)
        where = str(sink) if isinstance(sink, Path) else sink
        self._writer = pq.ParquetWriter(where, self._schema, compression="zstd")
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._buffered_bytes = 0
        self.rows = 0
        """Rows added so far."""

    def add(self, planned: Sequence[PlannedSample], completions: Sequence[Completion], scores: Sequence[Score]) -> None:
        """Joins one shard and writes its rows in planned order.

        Every planned request becomes exactly one row: without a score its state is `not_run`. Of several completions
        or scores for one request the last one counts.
        """
        completion_of = {(completion.sample_id, completion.repeat): completion for completion in completions}
        score_of = {(score.sample_id, score.repeat): score for score in scores}
        for item in planned:
            shared = _sample_values(item)
            for repeat, digest in enumerate(item.digests):
                key = (item.sample.id, repeat)
                values = shared | {"repeat": repeat, "digest": digest}
                values |= _completion_values(completion_of.get(key))
                values |= self._score_values(score_of.get(key))
                self._append(values)

    def _score_values(self, score: Score | None) -> dict[str, Any]:
        if score is None:
            return {"state": "not_run", "reason": "The run ended before this request had a score."}
        values: dict[str, Any] = {SCORE_PREFIX + name: score.values.get(name) for name in self._score_names}
        other = {name: value for name, value in score.values.items() if name not in self._score_names}
        return values | {
            "other_scores": json.dumps(other) if other else None,
            "state": score.state,
            "reason": score.reason,
            "answer": score.answer,
            "extractor": score.extractor,
            "explanation": score.explanation,
        }

    def _append(self, values: dict[str, Any]) -> None:
        values |= {"run": self._run, "benchmark": self._benchmark}
        for name, column in self._columns.items():
            column.append(values.get(name))
        self.rows += 1
        self._buffered_bytes += sum(len(value) for value in values.values() if isinstance(value, str))
        if len(self._columns["run"]) >= ROWS_PER_GROUP or self._buffered_bytes >= BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        try:
            table = pa.table(self._columns, schema=self._schema)
        except UnicodeEncodeError:
            # JSON can smuggle in half of a surrogate pair, which UTF-8 cannot hold.
            table = pa.table({name: _encodable(column) for name, column in self._columns.items()}, schema=self._schema)
        self._writer.write_table(table)
        for column in self._columns.values():
            column.clear()
        self._buffered_bytes = 0

    def close(self) -> None:
        """Writes what is left and the footer; the file cannot be read before. Closing again does nothing."""
        if self._writer.is_open:
            if self._columns["run"]:
                self._flush()
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _sample_values(planned: PlannedSample) -> dict[str, Any]:
    sample = planned.sample
    prompt = planned.prompt
    if planned.messages:
        turns = [{"role": message.role, "content": message.content} for message in planned.messages]
        prompt = json.dumps(turns, ensure_ascii=False)
    return {
        "subset": sample.subset,
        "sample_id": sample.id,
        "index": sample.index,
        "input": sample.input,
        "target": list(sample.target),
        "choices": list(sample.choices),
        "prompt": prompt,
        "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False),
    }


def _completion_values(completion: Completion | None) -> dict[str, Any]:
    if completion is None:
        return {}
    error, usage, timing = completion.error, completion.usage, completion.timing
    return {
        "completion": completion.text if error is None else None,
        "reasoning": completion.reasoning,
        "finish_reason": completion.finish_reason if error is None else None,
        "error_class": error.error_class if error else None,
        "error_message": error.message if error else None,
        "http_status": error.http_status if error else None,
        "tries": completion.tries,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "latency_s": timing.latency_s if timing else None,
        "ttft_s": timing.ttft_s if timing else None,
        "start_time": timing.start_time if timing else None,
        "digest": completion.digest,
        "reused_from": completion.reused_from,
    }


def read_results(
    source: str | Path | bytes,
    *,
    columns: Sequence[str] | None = None,
    start_row: int = 0,
    batch_rows: int = 1024,
) -> Iterator[dict[str, Any]]:
    """Rows of a results file in order, holding one batch in memory.

    Args:
        source: A local file, or the bytes of one.
        columns: Only these; all by default.
        start_row: 0-based first row; row groups before it are not read.
        batch_rows: Rows decoded at a time.
    """
    with pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else str(source)) as file:
        first_group, skip = 0, start_row
        while first_group < file.num_row_groups and skip >= file.metadata.row_group(first_group).num_rows:
            skip -= file.metadata.row_group(first_group).num_rows
            first_group += 1
        groups = list(range(first_group, file.num_row_groups))
        wanted = None if columns is None else list(columns)
        for batch in file.iter_batches(batch_size=batch_rows, row_groups=groups, columns=wanted):
            dropped = min(skip, batch.num_rows)
            skip -= dropped
            yield from batch.slice(dropped).to_pylist()
