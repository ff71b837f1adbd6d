"""What a level is computed from. A service fills these; nothing here knows how it came by them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from evalmesh.domain.load_test import Arrival, LoadLevel, SloTerm
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.table import Records

SKETCHES = ("itl", "chunk_gap")
"""Metrics whose figures come from histograms; all others are computed from records."""


class SketchesLike(Protocol):
    """Encoded histograms of one second (`load_generator.protocol.Sketches`)."""

    @property
    def itl(self) -> bytes: ...

    @property
    def chunk_gap(self) -> bytes: ...


class TickLike(Protocol):
    """One second as an engine tells it (`load_generator.protocol.Tick`)."""

    @property
    def second(self) -> int: ...

    @property
    def sent(self) -> int: ...

    @property
    def ok(self) -> int: ...

    @property
    def errors(self) -> Mapping[str, int]: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def queued(self) -> int: ...

    @property
    def input_tokens(self) -> int: ...

    @property
    def output_tokens(self) -> int: ...

    @property
    def cpu(self) -> float: ...

    @property
    def loop_lag_ms(self) -> float: ...

    @property
    def sketches(self) -> SketchesLike: ...


@dataclass(frozen=True, slots=True)
class Second:
    """One second of one generator. Counts are of this second; `in_flight` and `queued` are at its end."""

    second: int
    generator: int
    sent: int = 0
    ok: int = 0
    errors: int = 0
    in_flight: int = 0
    queued: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cpu: float = 0.0
    loop_lag_ms: float = 0.0
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    """By metric (`SKETCHES`), warm-up left out; in seconds."""


def second_of(generator: int, tick: TickLike) -> Second:
    """What is needed of a tick. Raises `ValueError` for histograms that cannot be read."""
    encoded = {"itl": tick.sketches.itl, "chunk_gap": tick.sketches.chunk_gap}
    return Second(
        second=tick.second,
        generator=generator,
        sent=tick.sent,
        ok=tick.ok,
        errors=sum(tick.errors.values()),
        in_flight=tick.in_flight,
        queued=tick.queued,
        input_tokens=tick.input_tokens,
        output_tokens=tick.output_tokens,
        cpu=tick.cpu,
        loop_lag_ms=tick.loop_lag_ms,
        histograms={name: Histogram.decode(data) for name, data in encoded.items() if data},
    )


@dataclass(frozen=True, slots=True)
class GeneratorHealth:
    """What is known of one seat beside its records."""

    seat: int
    host: str = ""
    cap: int = 0
    """Its share of `parallel`; 0: none."""
    lost: bool = False
    """Its records did not arrive, or not all of them."""
    clock_offset_s: float | None = None
    """Its monotonic clock less the conductor's."""
    clock_error_s: float | None = None
    cpu: float | None = None
    """Share of one core over the level; `None`: from its seconds."""
    loop_lag_p99_ms: float | None = None
    loop_lag_max_ms: float | None = None
    peak_in_flight: int = 0
    connections: int = 0
    max_rss_bytes: int = 0
    feed_starved: bool | None = None
    """Whether its feeder fell behind; `None`: inferred."""
    loop_lags: Histogram | None = None
    """How late its event loop was at any moment, in seconds; `None`: only the two figures above are known."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class LevelInputs:
    """Everything a level's document is computed from."""

    level: LoadLevel
    records: Records
    arrival: Arrival = "closed"
    index: int = 0
    repeat: int = 0
    role: Literal["level", "probe"] = "level"
    state: Literal["running", "done", "failed", "cancelled"] = "done"
    planned: int = 0
    """Requests of the plan over all seats, warm-up left out; 0: not bounded by a count."""
    seconds: tuple[Second, ...] = ()
    generators: tuple[GeneratorHealth, ...] = ()
    slo: tuple[SloTerm, ...] = ()
    start_time: float | None = None
    """Unix seconds; likewise the end."""
    end_time: float | None = None
    server: Mapping[str, Any] | None = None
    """What the server said about itself: `sources`, `series`, `summary` (docs/perf-schema.md)."""
    error_messages: Mapping[str, str] = field(default_factory=dict)
    """By class: the first message."""
    notes: tuple[str, ...] = ()

    @property
    def open_loop(self) -> bool:
        """Whether requests have due times of their own; else `parallel` of them are kept in flight."""
        return self.arrival == "trace" or (
            self.arrival != "closed" and (self.level.rate > 0 or bool(self.level.stages))
        )
