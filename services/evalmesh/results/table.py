"""Sample results as Parquet: one row per request, written and read as a stream.

Columns are explained in docs/report-schema.md.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from evalmesh.domain.completion import Completion
from evalmesh.domain.content import plain_parts
from evalmesh.domain.request import Message
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.scoring.outcomes import outcome_of

ROWS_PER_GROUP = 4096
BYTES_PER_GROUP = 16 * 1024 * 1024
"""A row group is also closed at this much text, so that long answers cost no more memory than many answers."""

SCORE_PREFIX = "score_"
AMOUNT = {"kind": "amount"}
"""Metadata of a score's column: its values are no shares of 1."""

_encode = msgspec.json.Encoder().encode

_TEXTS = pa.list_(pa.string())
_CONTINUATION = pa.struct(
    [
        ("text", pa.string()),
        ("logprob", pa.float64()),
        ("n_tokens", pa.int32()),
        ("n_bytes", pa.int32()),
        ("is_greedy", pa.bool_()),
    ]
)
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
    ("group", pa.string()),
    ("tags", _TEXTS),
    ("tools", pa.string()),
    ("tool_calls", pa.string()),
    ("refusal", pa.string()),
    ("media", pa.string()),
    ("continuations", pa.list_(_CONTINUATION)),
    ("top_logprobs", pa.string()),
    ("reference", pa.string()),
    ("outcome", pa.string()),
    ("turns", pa.string()),
)


def results_schema(score_names: Sequence[str], amounts: Collection[str] = ()) -> pa.Schema:
    """The columns; one `score_<name>` per value that the benchmark's scorer gives, `amounts` marked as such."""
    scores = [
        pa.field(SCORE_PREFIX + name, pa.float64(), metadata=AMOUNT if name in amounts else None)
        for name in score_names
    ]
    return pa.schema([*_BEFORE_SCORES, *scores, *_AFTER_SCORES])


def _to_json(value: Any) -> str:
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which UTF-8 cannot hold.
        return json.dumps(value)


class ResultsWriter:
    """Writes the results of one benchmark, shard by shard, holding at most one row group in memory."""

    def __init__(
        self,
        sink: str | Path | BinaryIO,
        *,
        run: str,
        benchmark: str,
        score_names: Sequence[str],
        amounts: Collection[str] = (),
    ) -> None:
        """Opens the sink.

        Args:
            sink: A local file, or a binary sink such as `io.BytesIO`; a given sink is left open by `close`.
            run: Id of the run.
            benchmark: Name of the benchmark.
            score_names: Keys of `Score.values` that get a column each. Values under other keys are kept as a JSON
                object in the column `other_scores`.
            amounts: Those of them that are no shares of 1, so that 1 is not full marks.
        """
        self._run = run
        self._benchmark = benchmark
        self._score_names = tuple(dict.fromkeys(score_names))
        self._schema = results_schema(self._score_names, amounts)
        where = str(sink) if isinstance(sink, Path) else sink
        # Arrow's own pool keeps what it frees: a fifth of the memory of a process that writes one file after another.
        pa.set_memory_pool(pa.system_memory_pool())
        self._writer = pq.ParquetWriter(where, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._buffered_bytes = 0
        self._turns: dict[int, tuple[Message, str]] = {}
        """Messages as JSON by identity: those that the samples of a shard share are written many times."""
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
            sample, prompt = item.sample, self._prompt_text(item)
            tools = _to_json(item.tools) if item.tools else None
            of_sample = (_to_json(dict(sample.metadata)), sample.group or None, list(sample.tags), tools)
            reference = None if sample.reference is None else _to_json(sample.reference)
            for repeat, digest in enumerate(item.digests):
                key = (item.sample.id, repeat)
                completion, score = completion_of.get(key), score_of.get(key)
                self._append(
                    (
                        *self._before_scores(item, repeat, prompt, completion, score),
                        *self._scores(score),
                        *_completion_values(completion, digest),
                        *of_sample,
                        *_beside_text(item, completion),
                        reference,
                        outcome_of(score),
                        _turns_between(item, completion),
                    )
                )

        self._turns.clear()

    def copy(self, data: bytes) -> None:
        """Takes over the rows of another file of this benchmark, group by group."""
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            if self._rows:
                self._flush()
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                if table.schema != self._schema:  # written by a build that knew fewer columns
                    known = [self._schema.empty_table(), table]
                    table = pa.concat_tables(known, promote_options="default").select(self._schema.names)
                self._write(table)
            self.rows += file.metadata.num_rows

    def _before_scores(
        self, item: PlannedSample, repeat: int, prompt: str, completion: Completion | None, score: Score | None
    ) -> tuple[Any, ...]:
        """Values of `_BEFORE_SCORES`."""
        sample = item.sample
        answered = completion is not None and completion.error is None
        return (
            self._run,
            self._benchmark,
            sample.subset,
            sample.id,
            sample.index,
            repeat,
            sample.input,
            list(sample.target),
            list(sample.choices),
            prompt,
            completion.text if completion and answered else None,
            completion.reasoning if completion else None,
            completion.finish_reason if completion and answered else None,
            score.answer if score else None,
            score.extractor if score else None,
        )

    def _prompt_text(self, planned: PlannedSample) -> str:
        if not planned.messages:
            return planned.prompt
        return f"[{','.join(map(self._turn, planned.messages))}]"

    def _turn(self, message: Message) -> str:
        known = self._turns.get(id(message))
        if known is None:
            known = self._turns[id(message)] = (message, _to_json(_turn(message)))
        return known[1]

    def _scores(self, score: Score | None) -> tuple[Any, ...]:
        """One value per score column, and of `_AFTER_SCORES` the first four."""
        if score is None:
            missing = (None,) * (len(self._score_names) + 1)
            return (*missing, "not_run", "The run ended before this request had a score.", None)
        values = score.values
        other = {name: value for name, value in values.items() if name not in self._score_names}
        return (
            *map(values.get, self._score_names),
            _to_json(other) if other else None,
            score.state,
            score.reason,
            score.explanation,
        )

    def _append(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        self.rows += 1
        self._buffered_bytes += sum(len(value) for value in row if isinstance(value, str))
        if len(self._rows) >= ROWS_PER_GROUP or self._buffered_bytes >= BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = dict(zip(self._schema.names, map(list, zip(*self._rows, strict=True)), strict=True))
        self._rows.clear()
        self._buffered_bytes = 0
        try:
            table = pa.table(columns, schema=self._schema)
        except UnicodeEncodeError:
            # JSON can smuggle in half of a surrogate pair, which UTF-8 cannot hold.
            table = pa.table({name: _encodable(column) for name, column in columns.items()}, schema=self._schema)
        self._write(table)

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table)
        # What a group took is given back: the next one may be long in coming, and be written by another thread.
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Writes what is left and the footer; the file cannot be read before. Closing again does nothing."""
        if self._writer.is_open:
            if self._rows:
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
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _turn(message: Message) -> dict[str, Any]:
    content = message.content
    turn: dict[str, Any] = {
        "role": message.role,
        "content": content if isinstance(content, str) else plain_parts(content),
    }
    turn |= {"tool_calls": message.tool_calls} if message.tool_calls else {}
    return turn | ({"tool_call_id": message.tool_call_id} if message.tool_call_id else {})


def _turns_between(planned: PlannedSample, completion: Completion | None) -> str | None:
    """Of a conversation: what stands between the prompt and the last answer."""
    if completion is None or not completion.turns:
        return None
    pairs = zip(completion.turns, planned.followups, strict=False)
    return _to_json([_turn(Message(*one)) for a, b in pairs for one in (("assistant", a), ("user", b))])


def _beside_text(planned: PlannedSample, completion: Completion | None) -> tuple[Any, ...]:
    """Values of the columns from `tool_calls` to `top_logprobs`."""
    if completion is None:
        return (None,) * 5
    return (
        _to_json(completion.tool_calls) if completion.tool_calls else None,
        completion.refusal,
        _to_json(plain_parts(completion.media)) if completion.media else None,
        [
            {
                "text": None if text is None else (before or "") + text,
                "logprob": one.logprob,
                "n_tokens": one.n_tokens or None,
                "n_bytes": one.n_bytes or None,
                "is_greedy": one.is_greedy,
            }
            for before, text, one in zip_longest(planned.contexts, planned.continuations, completion.continuations)
            if one is not None
        ]
        or None,
        _to_json(completion.top_logprobs) if completion.top_logprobs else None,
    )


def _completion_values(completion: Completion | None, digest: str) -> tuple[Any, ...]:
    """Values of `_AFTER_SCORES` from `error_class` to `reused_from`; `digest` is the request's."""
    if completion is None:
        return (*(None,) * 9, digest, None)
    error, usage, timing = completion.error, completion.usage, completion.timing
    return (
        error.error_class if error else None,
        error.message if error else None,
        error.http_status if error else None,
        completion.tries,
        usage.input_tokens if usage else None,
        usage.output_tokens if usage else None,
        timing.latency_s if timing else None,
        timing.ttft_s if timing else None,
        timing.start_time if timing else None,
        completion.digest,
        completion.reused_from,
    )


def read_results(
    source: str | Path | bytes | BinaryIO,
    *,
    columns: Sequence[str] | None = None,
    start_row: int = 0,
    batch_rows: int = 1024,
) -> Iterator[dict[str, Any]]:
    """Rows of a results file in order, holding one batch in memory.

    Args:
        source: A local file, open or not, or the bytes of one.
        columns: Only these; all by default.
        start_row: 0-based first row; row groups before it are not read.
        batch_rows: Rows decoded at a time.
    """
    if isinstance(source, bytes):
        source = pa.BufferReader(source)
    with pq.ParquetFile(str(source) if isinstance(source, Path) else source) as file:
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
