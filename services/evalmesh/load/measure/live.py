"""The last seconds of a level over all its seats: what a live view shows while the load goes on.

Seats tell of each second a moment after it has ended, each at its own moment. So rates are those of each seat over its
own last seconds, added up, and a seat that is a second behind lowers no rate. Percentiles are those of the level's last
seconds, from histograms that are merged by addition.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from evalmesh.domain.load_test import LatencyQuantiles, LoadSnapshot
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.ticks import SeatTick, Tick

WINDOW_S = 5
METRICS = ("ttft", "ttft_due", "itl", "e2e", "e2e_due", "send_lag")


@dataclass(slots=True)
class _Seat:
    """The last seconds of one seat; one more than the window, for what was queued before it."""

    ticks: deque[Tick] = field(default_factory=lambda: deque(maxlen=WINDOW_S + 1))
    heard_at: float = 0.0

    @property
    def window(self) -> list[Tick]:
        """The seconds in the window, oldest first."""
        return list(self.ticks)[-WINDOW_S:]

    @property
    def queued_before(self) -> int:
        """Held back when the window began; a level begins with nothing."""
        return self.ticks[0].queued if len(self.ticks) > WINDOW_S else 0


class LiveLevel:
    """Takes in the seconds of all seats, in any order among seats, and says how the newest level stands.

    Args:
        open_loop: Requests have due times, so that there is an offered rate.
        has_objective: Single requests are held to bounds, so that there is a share of good ones.
    """

    def __init__(self, *, open_loop: bool, has_objective: bool) -> None:
        self._open_loop = open_loop
        self._has_objective = has_objective
        self._begin(-1)

    def _begin(self, number: int) -> None:
        self._number = number
        self._seats: dict[int, _Seat] = {}
        self._seconds: dict[int, dict[str, Histogram]] = {}
        self._sent = self._ok = 0
        self._errors: Counter[str] = Counter()
        self._newest = -1

    def add(self, told: SeatTick, time: float, now: float) -> None:
        """Takes in a second that was told at `time` (Unix seconds, as `now`); known and older levels' are skipped."""
        tick = told.tick
        if tick.number < self._number:
            return
        if tick.number > self._number:
            self._begin(tick.number)
        seat = self._seats.setdefault(told.seat, _Seat())
        if seat.ticks and tick.second <= seat.ticks[-1].second:
            return
        seat.ticks.append(tick)
        seat.heard_at = time
        self._sent += tick.sent
        self._ok += tick.ok
        self._errors.update(tick.errors)
        self._newest = max(self._newest, tick.second)
        # Whoever begins to watch late takes in hours at once; only the last seconds are ever shown.
        if now - time < 2 * WINDOW_S:
            self._merge(tick)

    def _merge(self, tick: Tick) -> None:
        second = self._seconds.setdefault(tick.second, {})
        for metric in METRICS:
            data: bytes = getattr(tick.sketches, metric)
            if data:
                second.setdefault(metric, Histogram()).merge(Histogram.decode(data))
        for old in [known for known in self._seconds if known <= self._newest - 2 * WINDOW_S]:
            del self._seconds[old]

    def snapshot(self, now: float) -> LoadSnapshot | None:
        """The last seconds before `now`; `None` when no seat was heard in them."""
        seats = [seat for seat in self._seats.values() if now - seat.heard_at < WINDOW_S]
        if not seats:
            return None
        ok = sum(tick.ok for seat in seats for tick in seat.window)
        good = sum(tick.good for seat in seats for tick in seat.window)
        return LoadSnapshot(
            level_index=self._number,
            elapsed_s=float(self._newest + 1),
            window_s=float(max(len(seat.window) for seat in seats)),
            offered_rate=sum(map(_offered_rate, seats)) if self._open_loop else 0.0,
            sent_rate=sum(_rate(seat, "sent") for seat in seats),
            ok_rate=sum(_rate(seat, "ok") for seat in seats),
            output_token_rate=sum(_rate(seat, "output_tokens") for seat in seats),
            in_flight=sum(seat.ticks[-1].in_flight for seat in seats),
            queued=sum(seat.ticks[-1].queued for seat in seats),
            sent=self._sent,
            ok=self._ok,
            errors=dict(self._errors),
            latencies=self._latencies(),
            client_cpu=max(tick.cpu for seat in seats for tick in seat.window),
            client_lag_ms=max(tick.loop_lag_ms for seat in seats for tick in seat.window),
            generators=len(seats),
            good_share=good / ok if self._has_objective and ok else None,
        )

    def _latencies(self) -> Mapping[str, LatencyQuantiles]:
        recent = [self._seconds[second] for second in self._seconds if second > self._newest - WINDOW_S]
        found = {}
        for metric in METRICS:
            whole = Histogram.merged(second[metric] for second in recent if metric in second)
            if whole.n:
                found[metric] = LatencyQuantiles(*(1000 * value for value in whole.quantiles((0.5, 0.9, 0.99))))
        return found


def _rate(seat: _Seat, name: str) -> float:
    window = seat.window
    return float(sum(getattr(tick, name) for tick in window)) / len(window)


def _offered_rate(seat: _Seat) -> float:
    """Due per second: what was sent, and what the cap has held back since the window began."""
    window = seat.window
    return _rate(seat, "sent") + (window[-1].queued - seat.queued_before) / len(window)
