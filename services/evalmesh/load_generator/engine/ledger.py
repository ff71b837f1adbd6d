"""What is written down of a level: a record per request on disk, counts and histograms per second."""

from pathlib import Path
from typing import BinaryIO

from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.records import HEADER, MAGIC, NAN, OK, RECORD, Flag, Outcome, error_class, printable
from evalmesh.load.measure.ticks import Sketches
from evalmesh.load_generator.apis.base import Reader
from evalmesh.load_generator.engine.feed import Frame
from evalmesh.load_generator.engine.flight import NO_GAPS, AnswerGaps, Flight, answer_gaps

_BLOCK_BYTES = RECORD.size * 512
_WARMUP, _NEW, _USAGE, _MISMATCH = (int(flag) for flag in Flag)
_DETAIL_CHARACTERS = 300
_MOST_TOKENS = 0xFFFFFFFF


class OpenSecond:
    """Counts and histograms since the last tick."""

    __slots__ = (
        "chunk_gap", "e2e", "e2e_due", "errors", "even", "good", "input_tokens", "itl", "ok", "output_tokens",
        "send_lag", "sent", "starved", "ttft", "ttft_due",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sent = self.ok = self.good = self.starved = 0
        self.input_tokens = self.output_tokens = 0
        self.errors: dict[str, int] = {}
        self.ttft, self.ttft_due = Histogram(), Histogram()
        self.e2e, self.e2e_due = Histogram(), Histogram()
        self.send_lag = Histogram()
        self.even = Histogram()
        """Gaps of answers with one token a chunk: they are both token gaps and chunk gaps."""
        self.itl, self.chunk_gap = Histogram(), Histogram()

    def sketches(self) -> Sketches:
        """The histograms, encoded."""
        self.itl.merge(self.even)
        self.chunk_gap.merge(self.even)
        return Sketches(
            ttft=self.ttft.encode(),
            ttft_due=self.ttft_due.encode(),
            itl=self.itl.encode(),
            chunk_gap=self.chunk_gap.encode(),
            e2e=self.e2e.encode(),
            e2e_due=self.e2e_due.encode(),
            send_lag=self.send_lag.encode(),
        )


class RecordFile:
    """Records on disk, written in blocks. A disk that is full is an `error`, not an exception."""

    def __init__(self, path: str) -> None:
        self.error = ""
        self.written = 0
        """Records that are in the file."""
        self._block = bytearray(HEADER.pack(MAGIC, RECORD.size))
        self._file: BinaryIO | None = None
        self._bytes = -len(self._block)
        try:
            self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - lives as long as the level
        except OSError as error:
            self._fail(error)
        self.flush()

    def add(self, record: bytes) -> None:
        """Adds a packed record."""
        self._block += record
        if len(self._block) >= _BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is held back."""
        file, block = self._file, self._block
        if file is None:
            return
        try:
            while block:
                # A disk that is nearly full takes a part and refuses the rest.
                count = file.write(block) or 0
                self._bytes += count
                del block[:count]
        except OSError as error:
            self._fail(error)
        self.written = max(0, self._bytes) // RECORD.size

    def close(self) -> None:
        """Writes the rest."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _fail(self, error: OSError) -> None:
        self.error = f"the records cannot be written: {error.strerror or error}"
        if self._file is not None:
            self._file.close()
            self._file = None
        self._block.clear()


def _judge(flight: Flight) -> tuple[Outcome, str]:
    """How a request counts, and what a person is told about it."""
    reader, outcome = flight.reader, flight.outcome
    if outcome is OK:
        try:
            return reader.outcome(), reader.detail
        except Exception as error:  # noqa: BLE001 - a plug-in that raises must not take the level with it
            return Outcome.MALFORMED, f"{type(error).__name__}: {error}"
    if reader.failure is not None and outcome not in {Outcome.HTTP, Outcome.CANCELLED}:
        # Whatever happened to the connection afterwards, this came first.
        return reader.failure, reader.detail
    return outcome, flight.detail


def _bound(reader: Reader) -> None:
    """Keeps what a server says within what a record can hold."""
    together = reader.input_tokens | reader.output_tokens | reader.reasoning_tokens | reader.cached_tokens
    if 0 <= together <= _MOST_TOKENS:
        return
    for name in ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"):
        setattr(reader, name, min(max(0, getattr(reader, name)), _MOST_TOKENS))


class Ledger:
    """The books of one level."""

    def __init__(
        self, path: str, generator: int, goodput_ms: dict[str, float], *, is_open: bool, keys: tuple[str, ...] = ()
    ) -> None:
        """`is_open`: an open loop, whose latencies also count from the scheduled time. `keys` are told to nobody."""
        self.file = RecordFile(path)
        self.start_at = 0.0
        """The level's start on the monotonic clock."""
        self.second = OpenSecond()
        self.counts: dict[str, int] = {}
        self.warmup_counts: dict[str, int] = {}
        self.examples: dict[str, str] = {}
        """The first message of each class of failure."""
        self.sent_first_s: float | None = None
        self.sent_last_s: float | None = None
        self._generator = generator
        self._goodput_s = {metric: limit / 1000 for metric, limit in goodput_ms.items()}
        self._is_open = is_open
        self._keys = keys

    def sent(self, flight: Flight, due_s: float) -> None:
        """Notes that a request was sent. `due_s`: since the start."""
        if flight.frame.flags & _WARMUP:
            return
        second = self.second
        send_s = flight.send_s - self.start_at
        second.sent += 1
        second.send_lag.add(send_s - due_s)
        if self.sent_first_s is None:
            self.sent_first_s = send_s
        self.sent_last_s = send_s

    def book(self, flight: Flight) -> Outcome:
        """Writes down a request that has ended."""
        reader = flight.reader
        outcome, detail = _judge(flight)
        chunks = len(reader.times)
        output_tokens = chunks if reader.generates else 0
        if reader.has_usage:
            _bound(reader)
            output_tokens = reader.output_tokens
        is_ok = outcome is OK
        gaps = answer_gaps(reader, output_tokens) if is_ok and chunks > 1 else NO_GAPS
        self.file.add(self._record(flight, outcome, output_tokens, gaps))
        if flight.frame.flags & _WARMUP:
            self._count(self.warmup_counts, outcome, flight.status, detail)
            return outcome
        second = self.second
        second.input_tokens += reader.input_tokens or (flight.prepared_tokens if is_ok else 0)
        second.output_tokens += output_tokens - flight.told_tokens
        if is_ok:
            self.counts["ok"] = self.counts.get("ok", 0) + 1
            self._succeed(flight, gaps)
        else:
            name = self._count(self.counts, outcome, flight.status, detail)
            second.errors[name] = second.errors.get(name, 0) + 1
        return outcome

    def book_unsent(self, frame: Frame, outcome: Outcome, first_turn: int = 0, due_s: float = NAN) -> None:
        """Writes down what was never sent: a request, or the turns of a conversation that are left."""
        counts = self.warmup_counts if frame.flags & _WARMUP else self.counts
        for turn in range(first_turn, max(1, frame.turns)):
            record = RECORD.pack(
                frame.position, frame.conversation, turn, 0, outcome, frame.flags & _WARMUP, self._generator,
                due_s, NAN, NAN, NAN, NAN,
                frame.prepared_tokens, 0, 0, 0, 0, frame.max_tokens, frame.prepared_tokens, 0,
                NAN, NAN, NAN, NAN, NAN, NAN,
            )  # fmt: skip
            self.file.add(record)
            name = self._count(counts, outcome, 0, "")
            if counts is self.counts:
                self.second.errors[name] = self.second.errors.get(name, 0) + 1

    def look_at(self, flight: Flight) -> None:
        """Notes at a tick what has come of an answer so far."""
        times = flight.reader.times
        if not times or flight.frame.flags & _WARMUP:
            return
        if flight.reader.generates:
            self.second.output_tokens += len(times) - flight.told_tokens
            flight.told_tokens = len(times)
        if not flight.told_first:
            self._first(flight, times[0])

    def next_second(self) -> OpenSecond:
        """Ends the current second."""
        second, self.second = self.second, OpenSecond()
        self.file.flush()
        return second

    def _record(self, flight: Flight, outcome: Outcome, output_tokens: int, gaps: AnswerGaps) -> bytes:
        reader, frame, start_at = flight.reader, flight.frame, self.start_at
        times, send_s = reader.times, flight.send_s
        chunks = len(times)
        flags = frame.flags & _WARMUP
        if flight.is_new:
            flags |= _NEW
        if reader.has_usage:
            flags |= _USAGE
            # With several choices `max_tokens` is of each of them.
            most = flight.max_tokens * reader.choices
            if reader.generates and (output_tokens < chunks or 0 < most < output_tokens):
                flags |= _MISMATCH
        return RECORD.pack(
            frame.position,
            frame.conversation,
            flight.turn,
            flight.status,
            outcome,
            flags,
            self._generator,
            flight.due_s,
            send_s - start_at,
            times[0] - start_at if chunks else NAN,
            times[-1] - start_at if chunks else NAN,
            flight.end_s - start_at,
            reader.input_tokens or flight.prepared_tokens,
            output_tokens,
            reader.reasoning_tokens,
            reader.cached_tokens,
            chunks,
            flight.max_tokens,
            flight.prepared_tokens,
            len(flight.body),
            flight.connect_s if flight.is_new else NAN,
            gaps.mean_s,
            gaps.p99_s,
            gaps.max_s,
            gaps.chunk_max_s,
            flight.first_byte_s - send_s if flight.first_byte_s else NAN,
        )

    def _succeed(self, flight: Flight, gaps: AnswerGaps) -> None:
        second, times = self.second, flight.reader.times
        second.ok += 1
        if not flight.told_first:
            self._first(flight, times[0])
        begun_s = flight.send_s
        second.e2e.add(times[-1] - begun_s)
        if self._is_open:
            begun_s = self.start_at + flight.due_s
            second.e2e_due.add(times[-1] - begun_s)
        if gaps.token is None:
            if gaps.chunk_max_s > 0:
                second.even.add_all(gaps.chunk)
            elif gaps.chunk:
                second.even.add(0.0, len(gaps.chunk))
        else:
            for gap_s, tokens in gaps.token:
                second.itl.add(gap_s, tokens)
            second.chunk_gap.add_all(gaps.chunk)
        if self._goodput_s:
            seen = {
                "ttft": times[0] - begun_s,
                "e2e": times[-1] - begun_s,
                "tpot": gaps.mean_s,
                "itl_mean": gaps.mean_s,
                "itl_p99": gaps.p99_s,
            }
            # NaN, of answers without gaps, is above no bound.
            second.good += not any(seen[metric] > limit for metric, limit in self._goodput_s.items())

    def _first(self, flight: Flight, first_s: float) -> None:
        flight.told_first = True
        self.second.ttft.add(first_s - flight.send_s)
        if self._is_open:
            self.second.ttft_due.add(first_s - self.start_at - flight.due_s)

    def _count(self, counts: dict[str, int], outcome: Outcome, status: int, detail: str) -> str:
        name = error_class(outcome, status)
        counts[name] = counts.get(name, 0) + 1
        if detail and name not in self.examples:
            for key in self._keys:
                # Servers have been seen to quote the key they refuse.
                detail = detail.replace(key, "[key]")
            self.examples[name] = printable(detail[: 2 * _DETAIL_CHARACTERS])[:_DETAIL_CHARACTERS]
        return name
