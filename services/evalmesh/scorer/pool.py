"""Worker processes that may be killed: one call that hangs or crashes costs that call and nothing else.

Each worker is a fresh interpreter (`python -c ...`), not a fork: this process runs threads and gRPC, whose locks a
forked child would inherit in whatever state they are in. Workers persist, so an interpreter and its imports are paid
once and not per call. What a worker judges may make it say anything: its words are data of a declared type and a
bounded size, or they are garbage, and the worker is replaced. It has no keys in its environment and limits to what it
may use (`pool_worker`).

A worker ends with its parent, however that dies: a thread in it reads the pipe and exits at its end. Code that never
lets that thread run is ended by a timer of the operating system, set to a little more than the call's deadline.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from opentelemetry.trace import get_current_span

from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InternalError, InvalidInput, Unavailable
from evalmesh.process.child import Command
from evalmesh.process.environment import essentials, of_our_interpreter
from evalmesh.process.piped import ChildGoneError, PipedChild
from evalmesh.runtime.telemetry.metrics import SCORER_CALLS, SCORER_DURATION, SCORER_WORKERS
from evalmesh.scorer.calls import HEADER, MARK, MOST_BYTES, Call, Raised, Returned, frame, path_of, types_of

T = TypeVar("T")

_START_TIMEOUT_S = 60.0
_EXIT_GRACE_S = 1.0
_BOOT = "from evalmesh.scorer.pool_worker import worker_main; worker_main()"
_reply_decoder: msgspec.msgpack.Decoder[Returned | Raised] = msgspec.msgpack.Decoder(Returned | Raised)


class CallRaisedError(InternalError):
    """The function itself raised; the message is the class and the text of that."""

    def __init__(self, raised: Raised) -> None:
        super().__init__(f"{raised.kind}: {raised.message}")
        self.kind = raised.kind
        """Name of the class."""
        self.trace = raised.trace


class KillablePool:
    """Calls top-level functions in other processes, each call with a deadline.

    A function says the types of its arguments and of its result, which are those that msgspec knows. Processes start at
    first use; all methods belong to one event loop.
    """

    def __init__(self, size: int, preload: Sequence[str] = (), memory_bytes: int = 0) -> None:
        """Starts nothing yet.

        Args:
            size: Calls at once.
            preload: Modules that each worker imports before its first call, so that no deadline pays for them.
            memory_bytes: What calls may use beyond what is loaded; 0: no limit.
        """
        if size < 1:
            raise InvalidInput(f"The pool size is {size}; give at least 1.", {"field": "size"})
        self._options = (str(memory_bytes), *preload)
        self._free: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)
        self._workers: set[_Worker] = set()
        self._reapers: set[asyncio.Future[None]] = set()
        self._closed = False
        self._unwatch = SCORER_WORKERS.watch(lambda: {(): len(self._workers)}, "scorer")

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(worker.child.pid for worker in self._workers)

    async def run(self, function: Callable[..., T], *args: Any, deadline_s: float) -> T:
        """Calls `function(*args)` in a worker; `deadline_s` counts from when the worker gets it.

        Raises:
            CallRaisedError: The function raised.
            DeadlineExceeded: It took too long.
            InternalError: Its process died, or said what is no result of it.
            Unavailable: No process can be started.

        After the last three, and when the caller is cancelled, the worker is killed and the next call gets a new one.
        """
        try:
            path, result = path_of(function), types_of(function)[1]
            body = msgspec.msgpack.encode(Call(path, msgspec.Raw(msgspec.msgpack.encode(args)), deadline_s))
        except (TypeError, ValueError, NameError, OverflowError, RecursionError) as error:
            raise InvalidInput(f"The call cannot be sent to a worker: {error}.") from error
        self._require_open()
        began = time.perf_counter()
        try:
            value: T = await self._answered(body, result, deadline_s)
        except BaseException as error:
            _tell(began, _ENDS.get(type(error), "died"))
            raise
        _tell(began, "returned")
        return value

    async def _answered(self, body: bytes, result: Any, deadline_s: float) -> Any:
        try:
            reply = await self._call_once(body, result, deadline_s)
        except _NeverStartedError:  # the worker was of no use before it got this call, which is not to blame
            reply = await self._call_once(body, result, deadline_s)
        if isinstance(reply, Raised):
            raise CallRaisedError(reply)
        return reply

    async def close(self) -> None:
        """Ends all workers; calls in progress fail with `InternalError`."""
        if not self._closed:
            self._unwatch()
        self._closed = True
        for worker in tuple(self._workers):
            self._discard(worker)
        await asyncio.gather(*self._reapers)

    def _require_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("The worker pool is closed; make a new one.")

    async def _call_once(self, body: bytes, result: Any, deadline_s: float) -> Any:
        slot = await self._free.get()
        worker: _Worker | None = None
        healthy = False
        try:
            worker = await self._usable(slot)
            # A child tells nothing itself; this is where it is found in the logs.
            get_current_span().set_attribute("evalmesh.child.pid", worker.child.pid)
            reply = await worker.exchange(body, result, deadline_s)
            healthy = True
        finally:
            if worker is not None and not healthy:
                self._discard(worker)
            self._free.put_nowait(worker if healthy else None)
        return reply

    async def _usable(self, worker: "_Worker | None") -> "_Worker":
        if worker is not None:
            if worker.child.alive and not worker.child.output.at_eof():
                return worker
            self._discard(worker)
        self._require_open()
        started = await _start(self._options)
        self._workers.add(started)
        if self._closed:
            self._discard(started)
        self._require_open()
        return started

    def _discard(self, worker: "_Worker") -> None:
        worker.child.kill()
        if worker in self._workers:
            self._workers.remove(worker)
            reaper = asyncio.ensure_future(worker.child.close(0))
            self._reapers.add(reaper)
            reaper.add_done_callback(self._reapers.discard)


_ENDS: Mapping[type[BaseException], str] = {
    CallRaisedError: "raised",
    DeadlineExceeded: "late",
    asyncio.CancelledError: "cancelled",
}


def _tell(began: float, outcome: str) -> None:
    SCORER_CALLS.add(1, outcome)
    SCORER_DURATION.record(time.perf_counter() - began)


class _NeverStartedError(InternalError):
    """The worker was gone, or raved, before it took the call."""


class _GarbageError(Exception):
    """The worker said what no worker says."""


class _Worker:
    """One process, one call at a time."""

    def __init__(self, child: PipedChild) -> None:
        self.child = child
        self._number = 0
        """Of the call in hand."""

    async def exchange(self, body: bytes, result: Any, deadline_s: float) -> Any:
        """What the function returned, or `Raised`."""
        started = False
        self._number += 1
        try:
            async with asyncio.timeout(deadline_s):
                self.child.say(frame(self._number, body))
                await self.receive(most_bytes=0)
                started = True
                reply = _reply_decoder.decode(await self.receive())
                return reply if isinstance(reply, Raised) else msgspec.msgpack.decode(reply.value, type=result)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The call took longer than {deadline_s:g} s; its worker was killed and will be replaced."
            ) from error
        except (asyncio.IncompleteReadError, ConnectionError, ChildGoneError) as error:
            message = f"The worker process died during the call ({await self._ending()}); it will be replaced."
            raise (InternalError if started else _NeverStartedError)(message) from error
        except (_GarbageError, msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"The worker process did not give a result of the call ({error}); it will be replaced."
            raise (InternalError if started else _NeverStartedError)(message) from error

    async def receive(self, most_bytes: int = MOST_BYTES + 1024) -> bytes:
        """The body of the next frame. Raises `_GarbageError`, `IncompleteReadError`."""
        mark, number, size = HEADER.unpack(await self.child.output.readexactly(HEADER.size))
        if (mark, number) != (MARK, self._number):
            raise _GarbageError("something else lay in its pipe")
        if size > most_bytes:
            raise _GarbageError(f"{size} bytes are more than a result may have")
        return await self.child.output.readexactly(size)

    async def _ending(self) -> str:
        try:
            async with asyncio.timeout(_EXIT_GRACE_S):
                return await self.child.ended()
        except TimeoutError:
            return "it closed its pipe"


async def _start(options: Sequence[str]) -> _Worker:
    # Libraries that take a thread per core take memory for each; a worker has one call at a time.
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | essentials()
    environment |= of_our_interpreter()
    child = await PipedChild.start("worker", Command([sys.executable, "-P", "-c", _BOOT, *options], environment))
    worker = _Worker(child)
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await worker.receive(most_bytes=0)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, _GarbageError) as error:
        await child.close(0)
        raise Unavailable("A worker process did not start; its own error is in the log.") from error
    except BaseException:
        await child.close(0)
        raise
    return worker
