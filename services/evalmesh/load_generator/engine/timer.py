"""A timer that is right to some ten microseconds, where the kernel has one.

uvloop's own timers go in steps of a millisecond, and those of asyncio wait at least as long as a poll.
"""

import asyncio
import contextlib
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_EXPIRATIONS_BYTES = 8
_PER_S = 1_000_000_000


class Timer(Protocol):
    """Calls a function once per time that is set."""

    def at(self, when_s: float) -> None:
        """Sets the moment of the next call, on the monotonic clock; replaces the one before."""

    def every(self, when_s: float, period_s: float) -> None:
        """Calls at a moment and then again and again; calls that would come together are one."""

    def close(self) -> None:
        """No more calls."""


def open_timer(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Timer:
    """The best timer this system has."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError, ImportError):
            return KernelTimer(loop, call)
    return LoopTimer(loop, call)


class LoopTimer:
    """The event loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self._handle: asyncio.TimerHandle | None = None

    def at(self, when_s: float) -> None:
        self.close()
        self._handle = self._loop.call_later(max(0.0, when_s - time.monotonic()), self._call)

    def every(self, when_s: float, period_s: float) -> None:
        def call() -> None:
            self.every(max(when_s + period_s, time.monotonic()), period_s)
            self._call()

        self.close()
        self._handle = self._loop.call_later(max(0.0, when_s - time.monotonic()), call)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class KernelTimer:
    """A `timerfd` that the event loop watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Raises `OSError`, `AttributeError` or `ImportError` where there is none."""
        self._loop = loop
        self._call = call
        self._fd, self._set = _make()
        loop.add_reader(self._fd, self._expired)

    def at(self, when_s: float) -> None:
        # A moment of 0 would switch the timer off; one that is past makes it expire at once.
        self._set(self._fd, max(1, int(when_s * 1e9)), 0)

    def every(self, when_s: float, period_s: float) -> None:
        self._set(self._fd, max(1, int(when_s * 1e9)), int(period_s * 1e9))

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            # Set again between its expiry and now.
            return
        self._call()


Setter = Callable[[int, int, int], object]


def _make() -> tuple[int, Setter]:
    """A timer and the function that sets it: file, moment and period in nanoseconds."""
    if sys.version_info >= (3, 13):
        fd = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        return fd, lambda fd, when_ns, period_ns: os.timerfd_settime_ns(
            fd, flags=os.TFD_TIMER_ABSTIME, initial=when_ns, interval=period_ns
        )
    return _make_by_hand()


def _make_by_hand() -> tuple[int, Setter]:
    """The same by way of the C library, for Pythons that do not know these calls."""
    import ctypes  # noqa: PLC0415 - only where it is needed

    library = ctypes.CDLL(None, use_errno=True)
    create, settime = library.timerfd_create, library.timerfd_settime
    fd = create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    # struct itimerspec: interval (s, ns), then the first moment (s, ns).
    spec = struct.Struct("llll")

    def set_to(fd: int, when_ns: int, period_ns: int) -> None:
        settime(fd, _ABSOLUTE, spec.pack(*divmod(period_ns, _PER_S), *divmod(when_ns, _PER_S)), None)

    return fd, set_to
