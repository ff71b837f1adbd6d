"""What seats and their conductor say to each other: a seat asks, the conductor answers. JSON over `ports.signals`.

Everything is asked by the seat, so that a conductor that was replaced needs no list of addresses: whoever answers at
the load test's subject is the conductor.
"""

import msgspec

from evalmesh.domain.load_test import ArrivalSpec, LoadLevel


class Hello(msgspec.Struct, tag="hello"):
    """A generator has taken a seat."""

    seat: int
    generator: str
    """Unique name of this holder; another name at the same seat is another generator."""
    host: str
    boot_id: str
    """Of the kernel: machines with the same one share a monotonic clock. Empty: unknown."""
    problem: str = ""
    """Why this generator cannot take part after all: a data set that cannot be read."""
    note: str = ""
    """What the feeder said about the prompts."""


class Ping(msgspec.Struct, tag="ping"):
    """What time is it?"""

    seat: int = -1


class ClockIs(msgspec.Struct, tag="clock"):
    """The seat's clock, as measured: add `offset_s` to its monotonic time to get the conductor's."""

    seat: int
    generator: str
    offset_s: float
    error_s: float


class Next(msgspec.Struct, tag="next"):
    """What shall I do? Answered when there is something to do, or after a moment with `Wait`."""

    seat: int
    generator: str
    after: int
    """Number of the last level this generator finished; -1: none."""


class ReadyFor(msgspec.Struct, tag="ready"):
    """The level is prepared. Answered with `Go` when all are, or after a moment with `Wait`."""

    seat: int
    generator: str
    number: int


class Beat(msgspec.Struct, tag="beat"):
    """Still at it. Answered with `CarryOn` or `StopLevel`."""

    seat: int
    generator: str
    number: int


class Finished(msgspec.Struct, tag="finished"):
    """The level's slice is in the object store."""

    seat: int
    generator: str
    number: int
    leaves: bool = False
    """A process of this generator has ended: the seat will be taken again, by another one."""


SeatSays = Hello | Ping | ClockIs | Next | ReadyFor | Beat | Finished


class Time(msgspec.Struct, tag="time"):
    """The conductor's monotonic clock as it handled the question."""

    now_s: float
    boot_id: str
    conductor: str


class Wait(msgspec.Struct, tag="wait"):
    """Nothing yet; ask again."""


class Perform(msgspec.Struct, tag="perform"):
    """Prepare this level, as one of `of` generators."""

    number: int
    repeat: int
    level: LoadLevel
    """The whole level."""
    arrival: ArrivalSpec
    position: int
    of: int
    warmup: int
    first_prompt: int
    drain_s: float
    goodput_ms: dict[str, float]
    token_scale: float = 0.0
    token_offset: int = 0


class Go(msgspec.Struct, tag="go"):
    """Begin."""

    start_at: float
    """On the conductor's monotonic clock."""


class StopLevel(msgspec.Struct, tag="stop_level"):
    """Leave off; what is there counts."""

    reason: str


class CarryOn(msgspec.Struct, tag="carry_on"):
    """Fine."""


class Stranger(msgspec.Struct, tag="stranger"):
    """The conductor has just taken over and does not know the seat; say `Hello` again."""


class Over(msgspec.Struct, tag="over"):
    """The load test has ended, or the seat is somebody else's now."""


ConductorSays = Time | Wait | Perform | Go | StopLevel | CarryOn | Stranger | Over

_seat_decoder: msgspec.json.Decoder[SeatSays] = msgspec.json.Decoder(SeatSays)
_conductor_decoder: msgspec.json.Decoder[ConductorSays] = msgspec.json.Decoder(ConductorSays)
encode = msgspec.json.Encoder().encode


def decode_question(data: bytes) -> SeatSays:
    """Raises `msgspec.DecodeError`."""
    return _seat_decoder.decode(data)


def decode_answer(data: bytes) -> ConductorSays:
    """Raises `msgspec.DecodeError`."""
    return _conductor_decoder.decode(data)
