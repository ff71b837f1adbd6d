"""What a generator tells of each second of a level: counts and histograms, small enough for the event stream.

Light on imports: the engine of a generator makes them.
"""

import msgspec


class Sketches(msgspec.Struct):
    """Histograms of one second: `load.histogram.Histogram.encode()`; empty bytes: nothing was recorded."""

    ttft: bytes = b""
    """From send, requests that got their first token in this second (how they end is not known yet)."""
    ttft_due: bytes = b""
    """From the scheduled time; open loop only."""
    itl: bytes = b""
    """Gap divided by the tokens it carried, once per token; of requests that succeeded in this second, whenever the gap
    was. Likewise the chunk gaps."""
    chunk_gap: bytes = b""
    e2e: bytes = b""
    """From send, requests that succeeded in this second."""
    e2e_due: bytes = b""
    send_lag: bytes = b""


class Tick(msgspec.Struct, tag="tick"):
    """One second of a level, as this generator saw it. Counts are of this second, not sums."""

    number: int
    second: int
    """Since the level's start; the last one of a level may be shorter."""
    sent: int
    ok: int
    errors: dict[str, int]
    in_flight: int
    """At the end of the second."""
    queued: int
    """Due, and held back by the cap, at the end of the second."""
    input_tokens: int
    output_tokens: int
    """Tokens that arrived (chunks, corrected by usage when an answer ends)."""
    good: int
    """Successes within the bounds of `goodput_ms`."""
    sketches: Sketches
    cpu: float
    """Share of one core this process used."""
    loop_lag_ms: float
    """Longest time in this second that the event loop was late."""
    feed_starved: int = 0
    """Requests sent late because they had not been prepared in time; their send lag shows it."""


class SeatTick(msgspec.Struct):
    """A second of one seat: the payload of a `load` event."""

    seat: int
    tick: Tick


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SeatTick)


def encode_seat_tick(seat: int, tick: Tick) -> bytes:
    """For an event. Chunk gaps are left out: no live view shows them, and an event should stay under 4 KiB."""
    sketches = msgspec.structs.replace(tick.sketches, chunk_gap=b"")
    return _encoder.encode(SeatTick(seat, msgspec.structs.replace(tick, sketches=sketches)))


def decode_seat_tick(data: bytes) -> SeatTick:
    """Back from an event; fields of a newer writer are skipped. Raises `ValueError`."""
    return _decoder.decode(data)
