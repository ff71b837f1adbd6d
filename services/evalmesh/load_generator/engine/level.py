"""One level at one generator: from the first frame to the last answer."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from evalmesh.load.measure.records import OK, Outcome
from evalmesh.load_generator.apis.base import LoadApi
from evalmesh.load_generator.engine.dialogue import Dialogue
from evalmesh.load_generator.engine.feed import Feed, Frame, ends_level
from evalmesh.load_generator.engine.flight import Flight
from evalmesh.load_generator.engine.health import Health, max_rss_bytes
from evalmesh.load_generator.engine.ledger import Ledger
from evalmesh.load_generator.engine.outage import Outage
from evalmesh.load_generator.engine.pacing import ClosedPacer, OpenPacer, Pacer, bound_s
from evalmesh.load_generator.engine.timer import open_timer
from evalmesh.load_generator.protocol import Done, EngineSaid, FrameKind, Ready, RunLevel, Tick
from evalmesh.ports.load_tests.http import LoadTransport

_LEAST_FIRST_FRAMES, _MOST_FIRST_FRAMES = 16, 1024
_FIRST_FRAMES_S = 0.1
"""So long the first frames are gathered before the level is ready."""
_LEVEL_END_S = 5.0
"""So long the feeder's word is waited for that there is no more, when everything else is over."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What levels share."""

    loop: asyncio.AbstractEventLoop
    transport: LoadTransport
    api: LoadApi
    feed: Feed
    health: Health
    generator: int
    say: Callable[[EngineSaid], None]
    keys: tuple[str, ...] = ()
    """What must appear in no message."""


class LevelEngine:
    """Sends, hears, writes down; says `Ready`, `Tick` and `Done`."""

    def __init__(self, tools: Tools, run: RunLevel, over: Callable[[], None]) -> None:
        """`over` is called once, after `Done`."""
        self._tools = tools
        self._run = run
        self._over = over
        self._is_closed = run.arrival.kind == "closed"
        self._ledger = Ledger(
            run.records_path, tools.generator, run.goodput_ms, is_open=not self._is_closed, keys=tools.keys
        )
        make = ClosedPacer if self._is_closed else OpenPacer
        self._pacer: Pacer = make(tools.loop, run.level, tools.feed, self)
        self._timer = open_timer(tools.loop, self._go)
        self._handles: list[asyncio.TimerHandle] = []
        self._flights: set[Flight] = set()
        self._pauses: dict[Dialogue, asyncio.TimerHandle] = {}
        """Conversations that think."""
        self._outage: Outage | None = None
        """Of a closed loop; an open one sends when its schedule says so, come what may."""
        self.used = 0
        self._unfinished = 0
        """Conversations with turns left to send."""
        self._state = "preparing"
        self._fed_out = False
        """The feeder's word has come that there is no more."""
        self._is_cut = False
        """Nothing is sent any more, not even turns of conversations."""
        self._waits_for_end = self._waited_for_end = False
        self._start_at = 0.0
        self._seconds = 0
        self._peak = 0
        self._starved = 0
        self._opened = tools.transport.opened
        self._error = ""

    # Before the start

    def prepare(self) -> None:
        """Begins to gather frames; `Ready` follows."""
        self._tools.feed.on_frames = self._on_frames
        self._tools.feed.start()
        self._on_frames()

    def start(self, start_at: float) -> None:
        """Sets the moment to begin."""
        if self._state in {"preparing", "ready"}:
            self._state = "waiting"
            self._start_at = self._ledger.start_at = start_at
            self._timer.at(start_at)

    def _on_frames(self) -> None:
        match self._state:
            case "preparing":
                self._gather()
            case "sending":
                self._pacer.fed()
                if self._tools.feed.closed and not self._tools.feed.frames:
                    self._error = self._error or "the feeder ended in the middle of the level"
                    self.fed_out()
            case "leaving":
                self._clear_feed()

    def _gather(self) -> None:
        feed = self._tools.feed
        if not feed.frames:
            if feed.closed:
                self._say_ready()
            return
        enough = min(max(self._run.level.parallel, _LEAST_FIRST_FRAMES), _MOST_FIRST_FRAMES)
        if len(feed.frames) >= enough or feed.full or feed.closed or ends_level(feed.frames[-1]):
            self._say_ready()
        elif not self._handles:
            self._handles.append(self._tools.loop.call_later(_FIRST_FRAMES_S, self._say_ready))

    def _say_ready(self) -> None:
        if self._state == "preparing":
            self._state = "ready"
            self._tools.say(Ready(self._run.number))

    # Sending

    def _go(self) -> None:
        if self._state != "waiting":
            return
        self._state = "sending"
        if self._is_closed:
            self._outage = Outage(self._tools.loop, self._run.level.parallel, self._start_at)
        self._tools.health.begin()
        self._schedule_tick()
        bound = bound_s(self._run.level)
        if bound:
            self._later(bound, self._cut_off)
        self._pacer.start(self._start_at)
        if self._tools.feed.closed:
            self._on_frames()

    def begin(self, frame: Frame, due_s: float) -> None:
        """Sends the request of a frame, or the first turn of its conversation."""
        self.used += 1
        if frame.kind != FrameKind.CONVERSATION:
            self._send(Flight(frame, frame.body, self._tools.api.reader(), due_s))
            return
        try:
            dialogue = Dialogue(self._tools.api, frame)
        except msgspec.DecodeError as error:
            self._error = self._error or f"the feeder sent a conversation that cannot be read: {error}"
            self._ledger.book_unsent(frame, Outcome.UNSENT, 0, due_s)
            self._tools.loop.call_soon(self._free, self._now_s())
            return
        self._unfinished += dialogue.has_more
        self._next_turn(dialogue, due_s)

    def fed_out(self) -> None:
        """No request follows; conversations go on."""
        if self._state != "sending":
            return
        if self._tools.feed.frames:
            self._take_end()
        self._pacer.stop()
        self._state = "leaving"
        self.used -= self._outage.end_rests() if self._outage is not None else 0
        self._start_drain()
        self._check_over()

    def _send(self, flight: Flight) -> None:
        self._flights.add(flight)
        self._tools.transport.send(flight)
        self._ledger.sent(flight, flight.due_s)
        self._peak = max(self._peak, len(self._flights))

    def ended(self, flight: Flight) -> None:
        """An exchange has ended, well or not."""
        self._flights.discard(flight)
        outcome = self._ledger.book(flight)
        dialogue = flight.dialogue
        flight.dialogue = None
        at_s = flight.end_s - self._start_at
        if isinstance(dialogue, Dialogue) and self._goes_on(dialogue, flight, outcome, at_s):
            return
        if self._state != "sending" or self._outage is None or not self._outage.rests(flight, self._rested):
            self._free(at_s)

    def _rested(self, verdict: str) -> None:
        if verdict and not bound_s(self._run.level):
            self._error = self._error or verdict
            self.used -= 1
            self._give_up()
        else:
            self._free(self._now_s())

    def _free(self, at_s: float) -> None:
        self.used -= 1
        if self._ledger.file.error and not self._error:
            self._error = self._ledger.file.error
            self._give_up()
        elif self._state == "sending":
            self._pacer.freed(at_s)
        else:
            self._check_over()

    # Conversations

    def _next_turn(self, dialogue: Dialogue, due_s: float) -> None:
        self._pauses.pop(dialogue, None)
        flight = dialogue.next_turn(due_s)
        if not dialogue.has_more:
            self._unfinished -= 1
            self._start_drain()
        self._send(flight)

    def _goes_on(self, dialogue: Dialogue, flight: Flight, outcome: Outcome, at_s: float) -> bool:
        """Whether the conversation has another turn; turns that cannot be had are written down."""
        if not dialogue.has_more:
            return False
        if outcome is OK and not self._is_cut:
            dialogue.hear(flight)
            think_s = dialogue.think_s
            due_s = at_s + think_s
            self._pauses[dialogue] = self._tools.loop.call_later(think_s, self._next_turn, dialogue, due_s)
            return True
        self._unfinished -= 1
        kind = Outcome.UNSENT if outcome in {Outcome.OK, Outcome.CANCELLED} else Outcome.SKIPPED
        self._ledger.book_unsent(dialogue.frame, kind, dialogue.turn)
        self._start_drain()
        return False

    # The end

    def stop(self) -> None:
        """Ends the level now: what is in flight is cancelled, what was not sent stays unsent."""
        if not self._start_at:
            self._start_at = self._ledger.start_at = time.monotonic()
            self._tools.health.begin()
        self._give_up()

    def _cut_off(self) -> None:
        """Nothing is sent from now on, neither requests nor turns."""
        if self._state == "over" or self._is_cut:
            return
        self._is_cut = True
        self._state = "leaving"
        self._pacer.stop()
        for dialogue, handle in self._pauses.items():
            handle.cancel()
            self._unfinished -= 1
            self.used -= 1
            self._ledger.book_unsent(dialogue.frame, Outcome.UNSENT, dialogue.turn)
        self._pauses.clear()
        self.used -= self._outage.end_rests() if self._outage is not None else 0
        self._start_drain()
        self._clear_feed()

    def _start_drain(self) -> None:
        """Once nothing more will be sent, answers are waited for only so long."""
        if self._state == "leaving" and self._run.drain_s and (self._is_cut or not self._unfinished):
            self._later(self._now_s() + self._run.drain_s, self._give_up)

    def _give_up(self) -> None:
        """Drops everything that is under way."""
        if self._state == "over":
            return
        self._cut_off()
        for flight in tuple(self._flights):
            self._tools.transport.cancel(flight)
            flight.outcome = Outcome.CANCELLED
            self.ended(flight)
        self._check_over()

    def _clear_feed(self) -> None:
        """Writes down requests that were planned and are not sent; read-ahead that was no plan is dropped."""
        feed = self._tools.feed
        while feed.frames and not self._fed_out:
            if ends_level(feed.frames[0]):
                self._take_end()
            elif self._was_planned(frame := feed.take()):
                self._ledger.book_unsent(frame, Outcome.UNSENT, 0, frame.due_s)
        self._check_over()

    def _take_end(self) -> None:
        frame = self._tools.feed.take()
        self._fed_out = True
        if frame.kind == FrameKind.FAILED:
            self._error = self._error or frame.body.decode("utf-8", "replace")

    def _was_planned(self, frame: Frame) -> bool:
        level = self._run.level
        if level.number:
            return True
        return not self._is_closed and frame.due_s <= bound_s(level)

    def _check_over(self) -> None:
        if self._state != "leaving" or self.used:
            return
        # In closed loop without a number the feed is endless, and what was read ahead means nothing.
        awaited = bool(self._run.level.number) or not self._is_closed
        if self._fed_out or self._tools.feed.closed or not awaited or self._waited_for_end or self._error:
            self._finish()
        elif not self._waits_for_end:
            self._waits_for_end = True
            self._handles.append(self._tools.loop.call_later(_LEVEL_END_S, self._end_waiting))

    def _end_waiting(self) -> None:
        self._waited_for_end = True
        self._check_over()

    def _finish(self) -> None:
        end_s = self._now_s()
        self._state = "over"
        self._pacer.stop()
        self._timer.close()
        for handle in self._handles:
            handle.cancel()
        self._tools.feed.on_frames = lambda: None
        if not self._fed_out:
            self._tools.feed.skip_level(self._run.number)
        self._say_tick()
        self._ledger.file.close()
        self._tools.say(self._done(end_s))
        self._tools.health.end()
        self._over()

    def _done(self, end_s: float) -> Done:
        ledger, health = self._ledger, self._tools.health
        lags = health.lags
        return Done(
            number=self._run.number,
            records=ledger.file.written,
            counts=ledger.counts,
            warmup_counts=ledger.warmup_counts,
            sent_first_s=ledger.sent_first_s,
            sent_last_s=ledger.sent_last_s,
            end_s=end_s,
            wall_s=self._now_s(),
            cpu_s=health.cpu_s,
            loop_lag_p99_ms=lags.quantile(0.99) * 1000 if lags.n else 0.0,
            loop_lag_max_ms=lags.max * 1000 if lags.n else 0.0,
            peak_in_flight=self._peak,
            connections=self._tools.transport.opened - self._opened,
            max_rss_bytes=max_rss_bytes(),
            error=self._error or ledger.file.error,
            examples=ledger.examples,
            feed_starved=self._pacer.starved,
            loop_lags=lags.encode(),
        )

    # Time

    def _now_s(self) -> float:
        return time.monotonic() - self._start_at

    def _later(self, at_s: float, call: Callable[[], None]) -> None:
        """Calls so long after the start."""
        self._handles.append(self._tools.loop.call_later(max(0.0, at_s - self._now_s()), call))

    def _schedule_tick(self) -> None:
        self._handles.clear()
        self._later(self._seconds + 1, self._tick)

    def _tick(self) -> None:
        self._say_tick()
        self._later(self._seconds + 1, self._tick)

    def _say_tick(self) -> None:
        ledger = self._ledger
        for flight in self._flights:
            ledger.look_at(flight)
        second = ledger.next_second()
        share, lag_ms = self._tools.health.tick()
        starved = self._pacer.starved - self._starved
        self._starved += starved
        self._tools.say(
            Tick(
                number=self._run.number,
                second=self._seconds,
                sent=second.sent,
                ok=second.ok,
                errors=second.errors,
                in_flight=len(self._flights),
                queued=self._pacer.queued(self._now_s()),
                input_tokens=second.input_tokens,
                output_tokens=second.output_tokens,
                good=second.good,
                sketches=second.sketches(),
                cpu=share,
                loop_lag_ms=lag_ms,
                feed_starved=starved,
            )
        )
        self._seconds += 1
