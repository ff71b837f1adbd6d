"""The engine watches itself: how late its event loop is, and what it uses."""

import asyncio
import math
import re
import resource
import sys
import time
from pathlib import Path

from evalmesh.load.measure.histogram import Histogram
from evalmesh.load_generator.engine.timer import open_timer

_EVERY_S = 0.02
"""Each probe of a process that is otherwise idle wakes it up, which is most of what it costs."""
_NEVER_S = 1e9
_MOST_MISSED = 500
"""Probes that one delay is counted for; of a longer one they stand for several each."""
_STATUS = Path("/proc/self/status")


class Health:
    """Of one level. A loop that is late sends and sees late, so its lag is the error of every time it tells."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = open_timer(loop, self._probe)
        self._due_s = time.monotonic()
        self._lags = Histogram()
        self._worst_s = 0.0
        self._cpu_s = time.process_time()
        self._tick_cpu_s = self._cpu_s
        self._tick_wall_s = self._due_s
        self._watches = False

    def begin(self) -> None:
        """Counts from now."""
        self._watches = True
        self._due_s = time.monotonic() + _EVERY_S
        self._timer.every(self._due_s, _EVERY_S)
        self._lags = Histogram()
        self._worst_s = 0.0
        self._cpu_s = self._tick_cpu_s = time.process_time()
        self._tick_wall_s = time.monotonic()

    def end(self) -> None:
        """Rests until the next level."""
        self._watches = False
        self._timer.every(_NEVER_S, _NEVER_S)

    def close(self) -> None:
        """Ends the watch for good."""
        self._timer.close()

    def tick(self) -> tuple[float, float]:
        """Share of a core used, and the longest lag in milliseconds, since the last tick."""
        cpu_s, wall_s = time.process_time(), time.monotonic()
        share = (cpu_s - self._tick_cpu_s) / max(1e-6, wall_s - self._tick_wall_s)
        self._tick_cpu_s, self._tick_wall_s = cpu_s, wall_s
        worst_s, self._worst_s = self._worst_s, 0.0
        # A loop that is held up right now has not been able to say so.
        return share, max(worst_s, wall_s - self._due_s, 0.0) * 1000

    @property
    def cpu_s(self) -> float:
        """Used since `begin`."""
        return time.process_time() - self._cpu_s

    @property
    def lags(self) -> Histogram:
        """How late the loop would have been at any moment since `begin`."""
        return self._lags

    def _probe(self) -> None:
        if not self._watches:
            return
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        self._worst_s = max(self._worst_s, late_s)
        # On a grid: a probe that was late does not put off the next one, and those that were missed meanwhile were late
        # as well. Else a stop of a second would count as often as one of a moment.
        missed = math.floor(late_s / _EVERY_S)
        step = 1 + missed // _MOST_MISSED
        self._lags.add(late_s)
        for at in range(step, missed + 1, step):
            self._lags.add(late_s - at * _EVERY_S, step)
        self._due_s += _EVERY_S * (1 + missed)


def max_rss_bytes() -> int:
    """The most memory this process has held.

    Where the kernel tells it of this program alone: what `getrusage` tells includes the service that started it.
    """
    try:
        status = _STATUS.read_text(encoding="ascii")
    except OSError:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
