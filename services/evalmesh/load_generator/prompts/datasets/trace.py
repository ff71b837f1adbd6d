"""Recorded traffic: when requests came and how long they were; texts are made to those lengths, or are recorded too.

Where texts are made, the length of answers is all that is left of them, so the server is asked to ignore its end marks
(`ignore_eos`); null for that key in `prompts.body` takes it out for a server that refuses it.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import PromptSpec
from evalmesh.load.arrivals.trace import BLOCK_TOKENS, TraceRow, parse
from evalmesh.load_generator.prompts import draws, rows
from evalmesh.load_generator.prompts.base import Context, Dataset, Later, LoadPrompt, Row, Skipped
from evalmesh.wire.row_files import Bad

_BLOCKS_KEPT = 1024
"""Texts of hash ids that are kept, 3 KB each; others are made anew when they come again."""
_UNITS = {"": 0.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}


class _Texts:
    """Texts for rows that have only lengths."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._texts = draws.Draws(context.seed, f"trace/{context.salt}")
        self._blocks = draws.Draws(context.seed, f"block/{context.salt}")
        self._block = lru_cache(_BLOCKS_KEPT)(self._made_block)

    def prompt(self, row: TraceRow, number: int) -> LoadPrompt:
        writer, least = self._context.writer, self._context.writer.least
        tokens = max(row.input_tokens, least)
        if tokens != row.input_tokens:
            self._context.note(f"Rows with prompts below {least} tokens were given {least}: nothing is shorter here.")
        self._context.note(_held(self._context.spec))
        text = self._of_blocks(row, number, tokens) if row.hash_ids else ""
        text = text or writer.prompt(self._texts, number, tokens)
        return LoadPrompt(text=text, tokens=tokens, max_tokens=row.output_tokens, exact_output=True)

    def _of_blocks(self, row: TraceRow, number: int, tokens: int) -> str:
        """The texts of the blocks, cut to length. Behind what they cover, the text is the row's own."""
        parts = [self._block(hash_id) for hash_id in row.hash_ids[: tokens // BLOCK_TOKENS + 1]]
        # What stands around the text takes tokens of the last block, so it is never missing there.
        missing = tokens - len(parts) * BLOCK_TOKENS
        if missing > 0:
            parts.append(self._context.writer.part(self._texts, number, missing))
        return self._context.writer.cut(" ".join(parts), tokens)

    def _made_block(self, hash_id: int) -> str:
        return self._context.writer.part(self._blocks, hash_id, BLOCK_TOKENS)


def _rows(context: Context) -> Iterator[Row]:
    unit_s = _unit_s(context)
    texts = _Texts(context)
    first_s: float | None = None
    last_s = 0.0
    for where, value in rows.of_context(context):
        try:
            row = parse(value, unit_s) if isinstance(value, dict) else None
        except ValueError as error:
            yield Bad(where, str(error))
            continue
        if row is None:
            yield value if isinstance(value, Bad) else Bad(where, "no object with a timestamp")
            continue
        if (reason := _left_out(row, context)) is not None:
            yield Skipped(reason)
            continue
        first_s = row.at_s if first_s is None else first_s
        offset_s = row.at_s - first_s
        if offset_s < last_s:
            context.note("Some rows are older than those before them; they are sent together with these.")
        last_s = max(last_s, offset_s)
        yield Later(_maker(row, texts, context), last_s)


def _maker(row: TraceRow, texts: _Texts, context: Context) -> Any:
    if row.body is None and not row.messages and not row.prompt:
        return lambda number: texts.prompt(row, number)
    context.recorded = True
    # The recorded length of an answer is only kept to where that is asked for: not every server can.
    match = bool(context.spec.args.get("match_output_length", False))
    limit = row.output_tokens if match or row.body is None else 0
    prompt = LoadPrompt(
        text=row.prompt,
        messages=row.messages,
        body=dict(row.body) if row.body is not None else None,
        max_tokens=limit,
        exact_output=match and limit > 0,
    )
    return lambda _: prompt


def _left_out(row: TraceRow, context: Context) -> str | None:
    made = row.body is None and not row.messages and not row.prompt
    if made and not row.input_tokens:
        return "without input tokens"
    if made and not row.output_tokens:
        return "without output tokens, so they had failed when they were recorded"
    bounds = context.spec.input_tokens
    if made and bounds is not None and bounds.kind != "trace" and not bounds.low <= row.input_tokens <= bounds.high:
        return f"outside prompts.input_tokens ({bounds.low} to {bounds.high})"
    return None


def _unit_s(context: Context) -> float:
    unit = context.spec.args.get("timestamp_unit", "")
    if unit not in _UNITS:
        raise InvalidInput(
            f"prompts.args.timestamp_unit is {unit!r}; use s, ms, us or ns.", {"field": "prompts.args.timestamp_unit"}
        )
    return _UNITS[str(unit)]


DATASETS = (
    Dataset(
        "trace",
        "Recorded traffic: Azure, Mooncake (with its shared prefixes), BurstGPT, or JSON lines with timestamps.",
        rows=_rows,
        timed=True,
    ),
)


def _held(spec: PromptSpec) -> str:
    """What answers are held to: the trace's lengths, or those that were asked for instead."""
    by = "" if "ignore_eos" in spec.body and not spec.body["ignore_eos"] else " by `ignore_eos`"
    asked = spec.output_tokens
    if asked is None or asked.kind == "trace":
        return f"Answers are held to the recorded lengths{by}."
    length = f"{asked.low}" if asked.low == asked.high else f"{asked.low} to {asked.high}"
    return f"Answers are held to {length} tokens, as was asked for, instead of the recorded lengths{by}."
