"""Functions that the tests send to worker processes."""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

from evalmesh.domain.errors import InvalidInput


def add(a: int, b: int) -> int:
    return a + b


def pid() -> int:
    return os.getpid()


def refuse(text: str) -> None:
    raise InvalidInput(text, {"field": "x"})


def loop_forever() -> None:
    while True:
        pass


def hold_the_interpreter_lock() -> int:
    return len(str(7 ** (10**9)))


def wait(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def leave(code: int) -> None:
    os._exit(code)


def give_up() -> None:
    sys.exit(3)


def crash() -> None:
    ctypes.string_at(0)


def shoot_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def chatter() -> str:
    print("noise on standard output")
    return sys.stdin.read()


def unsendable() -> object:
    return lambda: 1


def another_type() -> int:
    return "one"


def untyped(a, b):
    return a + b


def big(size: int) -> bytes:
    return b"x" * size


def modules() -> set[str]:
    return set(sys.modules)


def dig() -> int:
    return dig() + 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def raise_something_unspeakable() -> None:
    raise Unspeakable


def raise_half_a_letter() -> None:
    raise ValueError("\ud800" * 2000)


def eat_at_once(size: int) -> int:
    return len(bytearray(size))


def eat_piece_by_piece() -> int:
    pieces = []
    while True:
        pieces.append([len(pieces)] * 1000)


def explode() -> int:
    """As an expression does that doubles itself."""
    text = "x" * 1000
    while True:
        text += text


def processor_time() -> tuple[float, float]:
    return time.process_time(), resource.getrlimit(resource.RLIMIT_CPU)[0]


def use_it_up() -> None:
    """The rest of this call's processor time is taken away."""
    resource.setrlimit(resource.RLIMIT_CPU, (1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    while True:
        pass


def write_file(path: str, size: int) -> str:
    try:
        Path(path).write_bytes(b"x" * size)
    except OSError as error:
        return error.strerror
    return ""


def limits() -> dict[str, int]:
    return {name: resource.getrlimit(getattr(resource, name))[1] for name in ("RLIMIT_CORE", "RLIMIT_FSIZE")}


def environment() -> dict[str, str]:
    return dict(os.environ)


def rave(garbage: bytes) -> str:
    """Writes into every pipe there is."""
    for number in range(3, 30):
        try:
            os.write(number, garbage)
        except OSError:
            continue
    return "fine"


def flood(size: int) -> int:
    sys.stderr.write(("x" * 79 + "\n") * (size // 80))
    sys.stderr.flush()
    return size
