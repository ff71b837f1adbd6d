"""When the next request is sent: as soon as a slot is free, or when the schedule says so."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from evalmesh.domain.load_test import LoadLevel, Stage
from evalmesh.load_generator.engine.feed import Feed, Frame, ends_level
from evalmesh.load_generator.engine.timer import open_timer

_STAGE_STEP_S = 0.02


class Sender(Protocol):
    """The level, as those see it that decide when."""

    used: int
    """Slots in use: requests in flight, conversations under way."""

    def begin(self, frame: Frame, due_s: float) -> None:
        """Sends the request, or the first turn of the conversation."""

    def fed_out(self) -> None:
        """The feed of this level has ended."""


class Pacer(Protocol):
    """Decides when."""

    starved: int
    """Requests that were sent late because the feeder had not prepared them."""

    def start(self, start_at: float) -> None:
        """Begins, now."""

    def fed(self) -> None:
        """There are new frames."""

    def freed(self, at_s: float) -> None:
        """A slot was given back, so long after the start."""

    def queued(self, now_s: float) -> int:
        """Requests that are due and not sent."""

    def stop(self) -> None:
        """Sends nothing more."""


class ClosedPacer:
    """Keeps so many in flight; a request is due when its slot became free."""

    def __init__(self, loop: asyncio.AbstractEventLoop, level: LoadLevel, feed: Feed, sender: Sender) -> None:
        self._loop = loop
        self._level = level
        self._feed = feed
        self._sender = sender
        self._free: deque[float] = deque()
        """Since when each free slot is."""
        self._slots = 0
        self._start_at = 0.0
        self._is_dry = False
        self._is_stopped = False
        self.starved = 0

    def start(self, start_at: float) -> None:
        self._start_at = start_at
        if self._level.stages:
            self._follow_stages()
        else:
            self._resize(self._level.parallel, 0.0)
            self._pump(late=False)

    def fed(self) -> None:
        # Also when nothing waits: the end of the level may have come.
        if self._is_dry or not self._free:
            self._pump(late=self._is_dry)

    def freed(self, at_s: float) -> None:
        if self._sender.used < self._slots:
            self._free.append(at_s)
            self._pump(late=False)

    def queued(self, now_s: float) -> int:  # noqa: ARG002 - the port's shape
        return len(self._free) if self._is_dry else 0

    def stop(self) -> None:
        self._is_stopped = True

    def _follow_stages(self) -> None:
        if self._is_stopped:
            return
        now_s = time.monotonic() - self._start_at
        self._resize(parallel_at(self._level.stages, now_s), now_s)
        self._pump(late=False)
        self._loop.call_later(_STAGE_STEP_S, self._follow_stages)

    def _resize(self, slots: int, now_s: float) -> None:
        """More slots are free at once; fewer leave those in use alone, which are then not filled again."""
        self._slots = slots
        wanted = max(0, slots - self._sender.used)
        while len(self._free) < wanted:
            self._free.append(now_s)
        while len(self._free) > wanted:
            self._free.pop()

    def _pump(self, *, late: bool) -> None:
        frames, free = self._feed.frames, self._free
        self._is_dry = False
        while not self._is_stopped:
            if frames and ends_level(frames[0]):
                self._sender.fed_out()
                return
            if not free:
                return
            if not frames:
                self._is_dry = True
                return
            self.starved += late
            self._sender.begin(self._feed.take(), free.popleft())


class OpenPacer:
    """Sends each request at its moment, or when a slot is free after it: the moment stays the schedule's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, level: LoadLevel, feed: Feed, sender: Sender) -> None:
        self._most = level.parallel
        self._feed = feed
        self._sender = sender
        self._timer = open_timer(loop, self._pump)
        self._start_at = 0.0
        self._is_dry = False
        self._is_stopped = False
        self.starved = 0

    def start(self, start_at: float) -> None:
        self._start_at = start_at
        self._pump()

    def fed(self) -> None:
        if self._is_dry:
            self._pump(late=True)

    def freed(self, at_s: float) -> None:  # noqa: ARG002 - the port's shape
        if self._most and self._sender.used == self._most - 1:
            self._pump()

    def queued(self, now_s: float) -> int:
        """As far as the feed has been read ahead."""
        count = 0
        for frame in self._feed.frames:
            if ends_level(frame) or frame.due_s > now_s:
                break
            count += 1
        return count

    def stop(self) -> None:
        self._is_stopped = True
        self._timer.close()

    def _pump(self, *, late: bool = False) -> None:
        frames, sender, most = self._feed.frames, self._sender, self._most
        now_s = time.monotonic() - self._start_at
        self._is_dry = False
        while not self._is_stopped:
            if not frames:
                self._is_dry = True
                return
            frame = frames[0]
            if ends_level(frame):
                sender.fed_out()
                return
            if most and sender.used >= most:
                return
            if frame.due_s > now_s:
                now_s = time.monotonic() - self._start_at
                if frame.due_s > now_s:
                    self._timer.at(self._start_at + frame.due_s)
                    return
            self.starved += late
            sender.begin(self._feed.take(), frame.due_s)


def parallel_at(stages: Sequence[Stage], now_s: float) -> int:
    """Requests in flight that the stages ask for at a moment; the last one's end after all of them."""
    for stage in stages:
        if now_s < stage.duration_s:
            return round(stage.start + (stage.end - stage.start) * max(0.0, now_s) / stage.duration_s)
        now_s -= stage.duration_s
    return round(stages[-1].end)


def bound_s(level: LoadLevel) -> float:
    """When sending ends for good; 0: it ends by itself."""
    return level.duration_s or sum(stage.duration_s for stage in level.stages)
