"""What is kept of each request of a load test: one fixed-size record, the same bytes on disk, in objects and in numpy.

All times are seconds since the level's start (`start_at`), on the generator's monotonic clock. NaN: did not happen.
`load.measure.table` reads many of them at once; the generator writes them with `RECORD.pack` and needs no numpy for it.
"""

import struct
from enum import IntEnum

NAN = float("nan")


class Outcome(IntEnum):
    """How a request ended. Exactly one of these for every planned request; `names.error_class` names the class."""

    OK = 0
    HTTP = 1
    """A status that is no success; `status` has it."""
    CONNECT = 2
    """No connection: refused, unreachable, unknown host."""
    TLS = 3
    """The TLS handshake or the certificate failed."""
    CONNECT_TIMEOUT = 4
    READ_TIMEOUT = 5
    """Silence for longer than `read_timeout_s`: a stall."""
    TOTAL_TIMEOUT = 6
    RESET = 7
    """The connection broke: RST, or closed before the HTTP message was complete."""
    TRUNCATED = 8
    """The HTTP message is complete and the answer is not: no finish reason (no last event), or cut in an event."""
    MALFORMED = 9
    """An event or body that cannot be read, or HTTP that cannot."""
    ERROR_EVENT = 10
    """The stream carried an error object after a status of success."""
    EMPTY = 11
    """Complete, and without any content where content was due."""
    CANCELLED = 12
    """Sent, and given up because the level or the load test ended."""
    UNSENT = 13
    """Planned, and never sent, because the level or the load test ended before."""
    SKIPPED = 14
    """A later turn of a conversation whose earlier turn failed."""


OK = Outcome.OK
"""At hand for those who ask per request: to look up a member of an enumeration takes Python 3.11 a tenth of a
microsecond."""


class Flag(IntEnum):
    """Bits of `flags`."""

    WARMUP = 1
    """In no figure."""
    NEW_CONNECTION = 2
    """Opened a connection; `connect_s` says how long that took, and is part of the latencies from due and from send."""
    USAGE = 4
    """Token counts are the server's own (`usage`); else they are counted: one per content chunk."""
    MISMATCH = 8
    """The server's usage is less than the number of content chunks, or above `max_tokens`: counts are doubtful."""


FIELDS: tuple[tuple[str, str], ...] = (
    ("index", "I"),  # position in the global schedule
    ("conversation", "I"),  # equal for the turns of one conversation; the request's own index where there are none
    ("turn", "H"),
    ("status", "H"),  # HTTP status; 0 where none came
    ("outcome", "B"),
    ("flags", "B"),
    ("generator", "H"),
    ("due_s", "d"),  # when the schedule wanted it; closed loop: when its slot became free
    ("send_s", "d"),  # first byte handed to the kernel (or the connection begun)
    ("first_s", "d"),  # first content or reasoning token; for answers in one piece: the last byte
    ("last_s", "d"),  # last content token
    ("end_s", "d"),  # the HTTP message is complete, or the failure was seen
    ("input_tokens", "I"),  # of the server's usage, else as prepared; 0: unknown
    ("output_tokens", "I"),
    ("reasoning_tokens", "I"),
    ("cached_tokens", "I"),
    ("chunks", "I"),  # events that carried content
    ("max_tokens", "I"),  # asked for; 0: not limited
    ("prepared_tokens", "I"),  # length the prompt was made to have; 0: unknown
    ("body_bytes", "I"),
    ("connect_s", "f"),
    ("itl_mean_s", "f"),  # (last - first) / (output_tokens - 1): TPOT, measured over tokens
    ("itl_p99_s", "f"),  # 99th percentile of this request's own token gaps
    ("itl_max_s", "f"),
    ("chunk_gap_max_s", "f"),
    ("first_byte_s", "f"),  # header of the answer, from send
)
"""Name and `struct` code of each field, in order, without padding, little-endian."""

RECORD = struct.Struct("<" + "".join(code for _, code in FIELDS))
MAGIC = b"EVMLREC1"
"""A file of records: this, then `RECORD.size` as a little-endian u32, then records back to back. A file whose last
record is cut (its writer died) is read up to it."""
HEADER = struct.Struct("<8sI")


def error_class(outcome: int, status: int) -> str:
    """The class an outcome is counted under: `ok`, `http_429`, `connect`, `read_timeout`, `truncated`, ..."""
    if outcome == Outcome.HTTP:
        return f"http_{status}"
    return Outcome(outcome).name.lower()


def printable(text: str) -> str:
    """One line of what a server said: a terminal must not obey it, and a page must be able to show it."""
    return " ".join("".join(sign if sign.isprintable() else "\ufffd" for sign in word) for word in text.split())
