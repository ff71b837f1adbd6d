"""Worker processes that may be killed: one call that hangs or crashes costs that call and nothing else.

Each worker is a fresh interpreter (`python -c ...`), not a fork: this process runs threads and gRPC, whose locks a
forked child would inherit in whatever state they are in. `multiprocessing`'s own fresh start (spawn, forkserver) would
import the parent's `__main__` again and keep helper processes of its own, so pickled frames go over plain pipes
instead. Workers persist, so an interpreter and its imports are paid once and not per call.

A worker ends with its parent, however that dies: a thread in it reads the pipe and exits at its end. Code that never
lets that thread run is ended by a timer of the operating system, set to a little more than the call's deadline.
"""

import asyncio
import contextlib
import importlib
import io
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InternalError, InvalidInput, Unavailable

T = TypeVar("T")

_LENGTH_BYTES = 8
_START_TIMEOUT_S = 60.0
_EXIT_GRACE_S = 1.0
_TIMER_GRACE_S = 1.0
_STARTED = b"started"
_BOOT = "from evalmesh.scorer.pool import worker_main; worker_main()"


class KillablePool:
    """Runs top-level functions in other processes, each call with a deadline.

    Functions, arguments and results must be picklable. Processes start at first use; all methods belong to one event
    loop.
    """

    def __init__(self, size: int, preload: Sequence[str] = ()) -> None:
        """`preload`: modules that each worker imports before its first call, so that no deadline pays for them."""
        if size < 1:
            raise InvalidInput(f"The pool size is {size}; give at least 1.", {"field": "size"})
        self._preload = tuple(preload)
        self._free: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)
        self._workers: set[_Worker] = set()
        self._reapers: set[asyncio.Future[int]] = set()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(worker.process.pid for worker in self._workers)

    async def run(self, function: Callable[..., T], *args: Any, deadline_s: float) -> T:
        """Calls `function(*args)` in a worker; `deadline_s` counts from when the worker gets it.

        Raises what the function raises; `DeadlineExceeded` when it took too long and `InternalError` when its process
        died. In both cases (and when the caller is cancelled) the worker is killed and the next call gets a new one.
        """
        try:
            request = pickle.dumps((deadline_s, function, args), protocol=pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InvalidInput(f"The call cannot be sent to a worker: {error}. Use top-level functions.") from error
        self._require_open()
        try:
            reply = await self._call_once(request, deadline_s)
        except _NeverStartedError:  # the worker died while it was idle: this call is not to blame
            reply = await self._call_once(request, deadline_s)
        succeeded, value = _open(reply)
        if succeeded:
            result: T = value
            return result
        raise value

    async def close(self) -> None:
        """Ends all workers; calls in progress fail with `InternalError`."""
        self._closed = True
        for worker in tuple(self._workers):
            self._discard(worker)
        await asyncio.gather(*self._reapers)

    def _require_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("The worker pool is closed; make a new one.")

    async def _call_once(self, request: bytes, deadline_s: float) -> bytes:
        slot = await self._free.get()
        worker: _Worker | None = None
        healthy = False
        try:
            worker = await self._usable(slot)
            reply = await _exchange(worker, request, deadline_s)
            healthy = True
        finally:
            if worker is not None and not healthy:
                self._discard(worker)
            self._free.put_nowait(worker if healthy else None)
        return reply

    async def _usable(self, worker: "_Worker | None") -> "_Worker":
        if worker is not None:
            if worker.process.returncode is None and not worker.stdout.at_eof():
                return worker
            self._discard(worker)
        self._require_open()
        started = await _start(self._preload)
        self._workers.add(started)
        if self._closed:
            self._discard(started)
        self._require_open()
        return started

    def _discard(self, worker: "_Worker") -> None:
        worker.kill()
        if worker in self._workers:
            self._workers.remove(worker)
            reaper = asyncio.ensure_future(worker.process.wait())
            self._reapers.add(reaper)
            reaper.add_done_callback(self._reapers.discard)


class _NeverStartedError(InternalError):
    """The worker was gone before it took the call."""


@dataclass(eq=False, frozen=True, slots=True)
class _Worker:
    """One process and its pipes."""

    process: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader

    async def send(self, body: bytes) -> None:
        self.stdin.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        await self.stdin.drain()

    async def receive(self) -> bytes:
        header = await self.stdout.readexactly(_LENGTH_BYTES)
        return await self.stdout.readexactly(int.from_bytes(header, "big"))

    def kill(self) -> None:
        self.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


async def _exchange(worker: _Worker, request: bytes, deadline_s: float) -> bytes:
    started = False
    try:
        async with asyncio.timeout(deadline_s):
            await worker.send(request)
            await worker.receive()
            started = True
            return await worker.receive()
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"The call took longer than {deadline_s:g} s; its worker was killed and will be replaced."
        ) from error
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        message = f"The worker process died during the call ({await _exit_code(worker.process)}); it will be replaced."
        raise (InternalError if started else _NeverStartedError)(message) from error


async def _start(preload: Sequence[str]) -> _Worker:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _BOOT, *preload,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable(f"No worker process could be started: {error}.") from error
    if process.stdin is None or process.stdout is None:  # both were asked for
        raise InternalError("A worker process was started without pipes.")
    worker = _Worker(process, process.stdin, process.stdout)
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await worker.receive()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
        worker.kill()
        raise Unavailable("A worker process did not start; its own error is in the log.") from error
    except BaseException:
        worker.kill()
        raise
    return worker


async def _exit_code(process: asyncio.subprocess.Process) -> str:
    try:
        async with asyncio.timeout(_EXIT_GRACE_S):
            code = await process.wait()
    except TimeoutError:
        return "still running"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _open(reply: bytes) -> tuple[bool, Any]:
    try:
        succeeded, value = pickle.loads(reply)  # noqa: S301 - written by this module in our own child process
    except Exception as error:  # noqa: BLE001 - a class whose pickle does not load may raise anything
        return False, InternalError(f"A worker's result could not be read: {error!r}.")
    return bool(succeeded), value


def worker_main() -> None:
    """The worker process: reads calls from standard input, writes results to what was standard output.

    Both descriptors are moved away first, so that a function that prints or reads cannot disturb the frames.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor, not a path, is what is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    for module in sys.argv[1:]:
        importlib.import_module(module)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(source, calls), daemon=True).start()
    _send(sink, _STARTED)
    while True:
        request = calls.get()
        _send(sink, _STARTED)
        _send(sink, _answer(request))


def _read_calls(source: BinaryIO, calls: "queue.SimpleQueue[bytes]") -> None:
    while True:
        header = source.read(_LENGTH_BYTES)
        size = int.from_bytes(header, "big")
        body = source.read(size) if len(header) == _LENGTH_BYTES else b""
        if len(header) < _LENGTH_BYTES or len(body) < size:
            os._exit(0)  # the parent is gone or wants us to end, whatever the main thread is doing
        calls.put(body)


def _answer(request: bytes) -> bytes:
    try:
        deadline_s, function, args = pickle.loads(request)  # noqa: S301 - written by our own parent process
        signal.setitimer(signal.ITIMER_REAL, deadline_s + _TIMER_GRACE_S)
        try:
            result = (True, function(*args))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the caller's to see
        result = (False, error)
    try:
        buffer = io.BytesIO()
        pickle.dump(result, buffer, protocol=pickle.HIGHEST_PROTOCOL)
        return buffer.getvalue()
    except Exception as error:  # noqa: BLE001 - unpicklable values raise anything
        message = f"A worker's result cannot be sent back: {error!r}; it was {result[1]!r:.200}."
        return pickle.dumps((False, InternalError(message)))


def _send(sink: BinaryIO, body: bytes) -> None:
    sink.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    sink.flush()
