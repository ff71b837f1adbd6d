"""What happened to each request, as it happened: what a load generator's figures are held against."""

import json
import math
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

NAN = float("nan")
DEFAULT_SIZE = 200_000
_MS = 1e3
_PERCENTILES = (("p50", 0.50), ("p90", 0.90), ("p95", 0.95), ("p99", 0.99))


class Trace:
    """One generation request. Times are `time.monotonic()` of this machine, in seconds; NaN: did not happen.

    A time of writing is taken just before the bytes are handed to the kernel: a client cannot have them earlier.
    """

    __slots__ = (
        "arrived_s",
        "connection",
        "end_s",
        "endpoint",
        "fault",
        "first_s",
        "images",
        "is_stream",
        "last_s",
        "name",
        "number",
        "outcome",
        "prompt_tokens",
        "seq",
        "slot_s",
        "status",
        "times",
        "tokens",
        "tokens_each",
        "tries",
    )

    def __init__(self, endpoint: str, connection: int, arrived_s: float, *, keeps_times: bool) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self.arrived_s = arrived_s
        """The first byte of the request was read."""
        self.slot_s = self.first_s = self.last_s = self.end_s = NAN
        self.seq = 0
        """Position among the requests that ended, from 1."""
        self.number = 0
        self.tries = 0
        self.name = ""
        """Of the prompt: its sample, or a digest of its text."""
        self.is_stream = False
        self.images = 0
        self.prompt_tokens = 0
        self.tokens = 0
        self.tokens_each = 1
        """Tokens per content event; the last one may carry fewer."""
        self.status = 0
        self.outcome = ""
        """`ok`, the kind of the fault that broke it, `overloaded`, or `aborted`: the client left."""
        self.fault = ""
        """Also set where the answer was delayed and then went out whole."""
        self.times = array("f") if keeps_times else None
        """Of each content event, since `arrived_s`: float32, so 1 us after 8 s and 4 us after a minute."""

    def wrote(self, n_tokens: int) -> None:
        """Content goes out now."""
        now = time.monotonic()
        self.last_s = now
        if not self.tokens:
            self.first_s = now
        self.tokens += n_tokens
        if self.times is not None:
            self.times.append(now - self.arrived_s)

    def wrote_at_once(self, counts: Sequence[int]) -> None:
        """All content events go out now, in one piece."""
        if not counts:
            return
        self.wrote(sum(counts))
        if self.times is not None:
            self.times.extend(self.times[-1:] * (len(counts) - 1))

    def gaps(self) -> list[float]:
        """Seconds between content events."""
        times = self.times or ()
        return [later - earlier for earlier, later in pairwise(times)]

    def as_json(self, *, with_times: bool = False) -> dict[str, Any]:
        """One line of `/truth`."""
        gaps = sorted(self.gaps())
        line: dict[str, Any] = {
            "seq": self.seq,
            "number": self.number,
            "connection": self.connection,
            "endpoint": self.endpoint,
            "name": self.name,
            "try": self.tries,
            "stream": self.is_stream,
            "outcome": self.outcome,
            "fault": self.fault or None,
            "status": self.status,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "images": self.images,
            "arrived_s": self.arrived_s,
            "slot_s": _known(self.slot_s),
            "first_s": _known(self.first_s),
            "last_s": _known(self.last_s),
            "end_s": _known(self.end_s),
            "tokens_per_chunk": self.tokens_each,
            "chunk_gap_p50_s": quantile(gaps, 0.50),
            "chunk_gap_p99_s": quantile(gaps, 0.99),
            "chunk_gap_max_s": gaps[-1] if gaps else None,
        }
        if with_times and self.times is not None:
            line["times_s"] = [round(at, 6) for at in self.times]
        return line


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """By linear interpolation between the two nearest of sorted values; `None` of nothing."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class TruthLog:
    """The last requests that ended, up to `size` of them."""

    def __init__(self, size: int) -> None:
        """`size` 0: nothing is kept."""
        self.size = size
        self._ended: deque[Trace] = deque(maxlen=size)
        self._count = 0

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self.size > 0

    def add(self, trace: Trace) -> None:
        """A request ended."""
        if self.size:
            self._count += 1
            trace.seq = self._count
            self._ended.append(trace)

    def clear(self) -> None:
        """Forgets everything; `seq` starts over."""
        self._ended.clear()
        self._count = 0

    def since(self, seq: int) -> list[Trace]:
        """Requests that ended after the one with this `seq`, in order."""
        return [trace for trace in self._ended if trace.seq > seq]

    def lines(self, seq: int, *, with_times: bool) -> bytes:
        """JSON, one line per request."""
        dump = json.JSONEncoder(separators=(",", ":")).encode
        return "".join(dump(one.as_json(with_times=with_times)) + "\n" for one in self.since(seq)).encode()

    def summary(self, seq: int) -> dict[str, Any]:
        """Counts, percentiles of what was answered whole, and how requests arrived."""
        traces = self.since(seq)
        sound = [trace for trace in traces if trace.outcome == "ok" and trace.tokens]
        body = {
            "now_s": time.monotonic(),
            "requests": len(traces),
            "dropped": self._count - len(self._ended),
            "outcomes": dict(Counter(trace.outcome for trace in traces)),
            "faults": dict(Counter(trace.fault for trace in traces if trace.fault)),
            "tokens": sum(trace.tokens for trace in traces),
            "ttft_ms": describe(trace.first_s - trace.arrived_s for trace in sound),
            "e2e_ms": describe(trace.last_s - trace.arrived_s for trace in sound),
            "tpot_ms": describe(
                (trace.last_s - trace.first_s) / (trace.tokens - 1) for trace in sound if trace.tokens > 1
            ),
            "chunk_gap_ms": describe(gap for trace in sound for gap in trace.gaps()),
            "itl_ms": describe(gap for trace in sound for gap in token_gaps(trace)),
        }
        return body | {"arrivals": arrivals(sorted(trace.arrived_s for trace in traces))}


def token_gaps(trace: Trace) -> Iterable[float]:
    """Each gap divided by the tokens it carried, once per token."""
    each = trace.tokens_each
    gaps = trace.gaps()
    for position, gap in enumerate(gaps, 1):
        carried = each if position < len(gaps) else trace.tokens - each * len(gaps)
        for _ in range(carried):
            yield gap / carried


def describe(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, percentiles and largest of seconds, in milliseconds; `None` of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    found = {"count": len(ordered), "mean": _MS * math.fsum(ordered) / len(ordered), "max": _MS * ordered[-1]}
    return found | {name: _MS * (quantile(ordered, share) or 0.0) for name, share in _PERCENTILES}


def arrivals(ordered: Sequence[float]) -> dict[str, Any] | None:
    """Rate and evenness of sorted arrival times; `None` of fewer than three."""
    if len(ordered) < 3:  # Two gaps have a spread.
        return None
    gaps = [later - earlier for earlier, later in pairwise(ordered)]
    mean = math.fsum(gaps) / len(gaps)
    variance = math.fsum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)
    return {
        "first_s": ordered[0],
        "last_s": ordered[-1],
        "rate": 1.0 / mean if mean else None,
        "gap_cv": math.sqrt(variance) / mean if mean else None,
        "gap_ms": describe(gaps),
    }
