"""A pool's worker process: reads calls, writes results, within limits that it sets itself before it takes any."""

import importlib
import math
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from evalmesh.scorer.calls import HEADER, MOST_BYTES, Call, Raised, Returned, frame, function_at, types_of

_TIMER_GRACE_S = 1.0
_FILE_BYTES = 64 << 10
"""Largest file a worker may write: it has no business with any."""
_MESSAGE_CHARS = 500
_TRACE_CHARS = 4000
_call_decoder = msgspec.msgpack.Decoder(Call)


def worker_main() -> None:
    """`python -c ... MEMORY_BYTES MODULES...`: calls from standard input, results to what was standard output.

    Both descriptors are moved away first, so that a function that prints or reads cannot disturb the frames.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor, not a path, is what is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    for module in sys.argv[2:]:
        importlib.import_module(module)
    calls: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(source, calls), daemon=True).start()
    _limit(int(sys.argv[1]))
    _send(sink, frame(0))
    while True:
        number, body = calls.get()
        _send(sink, frame(number))
        reply = _answer(body)
        _send(sink, frame(number, msgspec.msgpack.encode(reply)))
        if isinstance(reply, Raised) and reply.kind == MemoryError.__name__:
            os._exit(0)  # what is left of its memory is in pieces


def _limit(memory_bytes: int) -> None:
    """`memory_bytes`: beyond what is loaded now; 0: no limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    with suppress(OSError):  # only Linux says how much is loaded, and keeps to the limit
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        if memory_bytes:
            most = pages * resource.getpagesize() + memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read_calls(source: BinaryIO, calls: "queue.SimpleQueue[tuple[int, bytes]]") -> None:
    try:
        while len(header := source.read(HEADER.size)) == HEADER.size:
            _, number, size = HEADER.unpack(header)
            body = source.read(size)
            if len(body) < size:
                break
            calls.put((number, body))
    finally:
        os._exit(0)  # the parent is gone or wants us to end, whatever the main thread is doing


def _answer(body: bytes) -> Returned | Raised:
    try:
        call = _call_decoder.decode(body)
        function = function_at(call.function)
        arguments = msgspec.msgpack.decode(call.arguments, type=types_of(function)[0])
        signal.setitimer(signal.ITIMER_REAL, call.deadline_s + _TIMER_GRACE_S)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + call.deadline_s + 1), hard))
        try:
            value = function(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        result = msgspec.msgpack.encode(value)
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the caller's to see
        traceback.clear_frames(error.__traceback__)  # they may hold all the memory there is
        return Raised(type(error).__name__, _text(error), _trace(error))
    if len(result) > MOST_BYTES:
        return Raised("ValueError", f"the result has {len(result)} bytes; {MOST_BYTES} are the most", "")
    return Returned(msgspec.Raw(result))


def _text(error: Exception) -> str:
    try:
        return _plain(str(error)[:_MESSAGE_CHARS])
    except Exception:  # noqa: BLE001 - an error of somebody else's making
        return "(it cannot be shown)"


def _trace(error: Exception) -> str:
    try:
        return _plain("".join(traceback.format_exception(error, limit=-10))[-_TRACE_CHARS:])
    except Exception:  # noqa: BLE001 - likewise
        return ""


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _send(sink: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[sink.write(rest) :]
