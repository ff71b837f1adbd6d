"""What services tell about a run or a load test while it goes on."""

from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal["state", "progress", "activity", "load"]


@dataclass(frozen=True, slots=True)
class Activity:
    """What one runner is doing for one benchmark at this moment."""

    in_flight: int = 0
    generated: int = 0
    """Completions of shards that are not finished yet."""
    errored: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the event stream of a run or a load test.

    `state`: the record changed. `progress`: results came in. `activity`: a runner's view, superseded by its next.
    `load`: a second of one seat of a load test.
    """

    run: str
    """Id of the run or load test."""
    kind: EventKind
    source: str
    """Which process says it."""
    time: float
    """Unix seconds."""
    activity: dict[str, Activity] = field(default_factory=dict)
    """By benchmark; kind `activity` only."""
    load: bytes = b""
    """`load.measure.ticks.encode_seat_tick`; kind `load` only."""


@dataclass(frozen=True, slots=True)
class SequencedEvent:
    """An event with its place in the stream; watches resume from a place."""

    sequence: int
    event: Event
