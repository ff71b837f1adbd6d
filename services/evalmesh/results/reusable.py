"""Completions of a results file, so that a run elsewhere may copy them where digests are equal.

They travel as JSON Lines (`completion_lines`), a form that `ImportCompletions` takes, with the whole completion beside
the text. In memory is only where each of them lies.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import msgspec

from evalmesh.domain.completion import Completion, ContinuationScore, Timing, TokenLogprob, Usage
from evalmesh.domain.content import ToolCall
from evalmesh.domain.request import Request
from evalmesh.ports.object_store import ObjectStore
from evalmesh.results.table import read_results


class _Row(msgspec.Struct):
    stored: Completion


class _Key(msgspec.Struct):
    digest: str


class _KeyRow(msgspec.Struct):
    """What is read of each row at first."""

    stored: _Key


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Row).decode
_decode_key = msgspec.json.Decoder(_KeyRow).decode


def completion_lines(results: Path) -> Iterator[bytes]:
    """One line per answer of a results file. Errors are not copied, and neither is what a model made beside text."""
    for row in read_results(results):
        if row["completion"] is not None and row["error_class"] is None and not row["media"]:
            stored = _completion(row)
            line = {"id": stored.sample_id, "repeat": stored.repeat, "text": stored.text, "stored": stored}
            yield _encode(line) + b"\n"


def _completion(row: Mapping[str, Any]) -> Completion:
    timing = None
    if row["start_time"] is not None and row["latency_s"] is not None:
        timing = Timing(row["start_time"], row["latency_s"], row["ttft_s"])
    usage = None
    if row["input_tokens"] is not None or row["output_tokens"] is not None:
        usage = Usage(row["input_tokens"], row["output_tokens"])
    continuations = (
        ContinuationScore(one["logprob"], one["n_tokens"] or 0, one["n_bytes"] or 0, bool(one["is_greedy"]))
        for one in row["continuations"] or ()
    )
    return Completion(
        sample_id=row["sample_id"],
        repeat=row["repeat"],
        digest=row["digest"],
        text=row["completion"],
        reasoning=row["reasoning"],
        finish_reason=row["finish_reason"] or "unknown",
        continuations=tuple(continuations),
        tool_calls=tuple(msgspec.json.decode(row["tool_calls"] or "[]", type=list[ToolCall])),
        refusal=row["refusal"],
        top_logprobs=tuple(msgspec.json.decode(row["top_logprobs"] or "[]", type=list[TokenLogprob])),
        turns=tuple(_answers(row.get("turns"))),
        usage=usage,
        timing=timing,
        tries=row["tries"] or 1,
        reused_from=row["reused_from"] or row["run"],
    )


def _answers(turns: str | None) -> Iterator[str]:
    """Those before the last one."""
    yield from (turn["content"] for turn in msgspec.json.decode(turns or "[]") if turn["role"] == "assistant")


class ReusableCompletions:
    """What was imported of other runs' results, by digest."""

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        """Reads the open files through, and from them ever after."""
        self._files = files
        self._places: dict[bytes, tuple[int, int]] = {}
        for number, file in enumerate(files):
            file.seek(0)
            offset = 0
            while line := file.readline():
                try:
                    digest = bytes.fromhex(_decode_key(line).stored.digest)
                except (msgspec.DecodeError, ValueError):
                    digest = b""  # completions made elsewhere, which are for scoring alone
                if digest:
                    self._places.setdefault(digest, (number, offset))
                offset += len(line)

    def of(self, request: Request) -> Completion | None:
        """The answer to a request with this very digest."""
        place = self._places.get(bytes.fromhex(request.digest))
        if place is None:
            return None
        number, offset = place
        file = self._files[number]
        file.seek(offset)
        return replace(_decode(file.readline()).stored, sample_id=request.sample_id, repeat=request.repeat)

    def close(self) -> None:
        """Gives up the files."""
        for file in self._files:
            file.close()


async def fetch_reusable(store: ObjectStore, keys: Sequence[str]) -> ReusableCompletions | None:
    """The imported files, on this machine until closed; `None` for none. Raises `NotFound`."""
    if not keys:
        return None
    files: list[IO[bytes]] = []
    try:
        for key in keys:
            files.append(tempfile.TemporaryFile())  # noqa: SIM115  (they live as long as what is returned)
            async for piece in store.stream(key):
                await asyncio.to_thread(files[-1].write, piece)
        return await asyncio.to_thread(ReusableCompletions, files)
    except BaseException:
        for file in files:
            file.close()
        raise
