"""What a load generator's processes say to each other. Light on imports: the engine pays for each at its start.

A generator is a pair of child processes of the service: the *feeder* prepares requests (data sets, tokenizer,
schedule) and the *engine* sends them and keeps time. Both live for many levels.

    service -> engine, feeder   one JSON object per line on stdin     (`EngineCommand`, `FeederCommand`)
    engine, feeder -> service   one JSON object per line on stdout    (`EngineSaid`, `FeederSaid`)
    feeder -> engine            frames through a socket pair          (`FRAME` header, then `size` bytes)

A level goes: service sends `FeedLevel` and `RunLevel`; the feeder fills the socket as far as it takes; the engine says
`Ready` once the first frames are in; the service sends `Start` with a moment on the shared monotonic clock; the engine
says `Tick` each second and `Done` at the end. `Stop` ends a level early: in-flight requests are cancelled.
"""

import struct

import msgspec

from evalmesh.domain.connection import Egress
from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, LoadTarget, PromptSpec
from evalmesh.load.measure.ticks import Sketches as Sketches  # noqa: PLC0414  (words of this protocol, too)
from evalmesh.load.measure.ticks import Tick as Tick  # noqa: PLC0414

FRAME = struct.Struct("<BBHIIddIIII")
"""kind, flags (`load.measure.records.Flag`), turn count, size of the body in bytes, index, due_s (NaN in closed loop),
think_s, conversation, prepared_tokens, max_tokens, reserved (0)."""


class FrameKind:
    """First byte of a frame."""

    REQUEST = 0
    """The body is the complete HTTP body of one request."""
    CONVERSATION = 1
    """The body is JSON: `Conversation`. The engine makes the turns' bodies, since they contain the answers."""
    LEVEL_END = 2
    """No more requests in this level; `index` is the level's number. So it is with every kind from here on."""
    FAILED = 3
    """The feeder cannot go on; the body is the sentence that says why. Ends the level."""


class Conversation(msgspec.Struct):
    """A frame's body: a conversation, whose answers come to stand between its turns."""

    body: msgspec.Raw
    """The JSON body without `messages` (chat) or `input` (responses), an object."""
    system: str
    """Empty: none."""
    turns: list[str]
    """The user's messages."""
    think_s: list[float]
    """Pause before each turn; the first is 0."""
    max_tokens: list[int]
    """Per turn; 0: as the body says."""
    prepared_tokens: list[int]
    """New tokens of each turn; 0: unknown."""


class EngineSetup(msgspec.Struct, tag="setup"):
    """First command: where to send. `headers` holds the key; it travels on stdin only."""

    target: LoadTarget
    headers: dict[str, str]
    """Complete, authorization included."""
    generator: int
    """Seat of this generator, from 0."""
    egress: Egress = Egress()
    """Addresses that may be connected to."""
    hidden: tuple[str, ...] = ()
    """What must not be shown wherever it is quoted: keys, and headers that came from references."""


class RunLevel(msgspec.Struct, tag="run_level"):
    """Get ready for a level."""

    number: int
    """Position of the level in the load test."""
    level: LoadLevel
    """This generator's share: `parallel`, `rate` and `stages` are its own."""
    arrival: ArrivalSpec
    records_path: str
    """File to write records to."""
    drain_s: float
    """After the last send, how long answers are waited for; then they are `CANCELLED`. 0: as long as they take."""
    goodput_ms: dict[str, float]
    """Bounds of `load.objective.slo.per_request` for the live goodput count; empty: none."""


class Start(msgspec.Struct, tag="start"):
    """Begin."""

    start_at: float
    """`time.monotonic()` of this machine."""


class Stop(msgspec.Struct, tag="stop"):
    """End the level now; what is in flight is `CANCELLED`, what is left of the feed `UNSENT`."""

    reason: str = ""


EngineCommand = EngineSetup | RunLevel | Start | Stop


class Ready(msgspec.Struct, tag="ready"):
    """The first requests are there; waiting for `Start`."""

    number: int


class Done(msgspec.Struct, tag="done"):
    """The level is over and its records are on disk."""

    number: int
    records: int
    counts: dict[str, int]
    """By class, warm-up left out; sums to the requests this generator was given."""
    warmup_counts: dict[str, int]
    sent_first_s: float | None
    sent_last_s: float | None
    end_s: float
    wall_s: float
    """From the start to the last record on disk."""
    cpu_s: float
    """In that time."""
    loop_lag_p99_ms: float
    loop_lag_max_ms: float
    peak_in_flight: int
    connections: int
    """Opened during the level."""
    max_rss_bytes: int
    error: str = ""
    """Why the level ended early: the feeder failed, the disk is full."""
    examples: dict[str, str] = {}
    """The first message of each class of failure, for people."""
    feed_starved: int = 0
    """Requests sent late because the feeder had not prepared them in time."""
    loop_lags: bytes = b""
    """How late the event loop was at any moment: `Histogram.encode()`."""


EngineSaid = Ready | Tick | Done


class FeederSetup(msgspec.Struct, tag="setup"):
    """First command: what to ask."""

    target: LoadTarget
    prompts: PromptSpec
    file_path: str
    """Local copy of the data set file; empty: none."""
    tokenizer_path: str
    """Local folder of the tokenizer; empty: none."""
    seed: int
    seat: int
    seats: int
    token_scale: float = 0.0
    """Tokens per random word as the server counts them, when there is no tokenizer; 0: not measured."""
    token_offset: int = 0
    """Tokens the server's chat template adds, likewise."""


class FeedLevel(msgspec.Struct, tag="feed_level"):
    """Feed one level: frames with `index % seats == seat`, then `LEVEL_END`."""

    number: int
    level: LoadLevel
    """The whole level, over all seats: the schedule is global."""
    arrival: ArrivalSpec
    warmup: int
    """The first this many indices are warm-up."""
    first_prompt: int
    """Prompts already used by earlier levels: this level goes on after them, so that no server cache helps it."""


class StopFeed(msgspec.Struct, tag="stop_feed"):
    """End the level's feed; `LEVEL_END` follows what was written."""


FeederCommand = FeederSetup | FeedLevel | StopFeed


class Fed(msgspec.Struct, tag="fed"):
    """A level has been fed to its end."""

    number: int
    requests: int
    prompts: int
    """Distinct prompts used, over all seats; for `first_prompt` of the next level."""
    repeated: bool
    """Whether prompts had to be used again: caches may have helped."""
    note: str = ""
    """What a reader must know about the prompts: how tokens were counted, rows that were left out."""


class FeedFailed(msgspec.Struct, tag="feed_failed"):
    """The data set or tokenizer cannot be used."""

    number: int
    """-1: already at `FeederSetup`."""
    error: str
    field: str = ""


class FeederReady(msgspec.Struct, tag="feeder_ready"):
    """`FeederSetup` worked."""

    note: str = ""


FeederSaid = Fed | FeedFailed | FeederReady
