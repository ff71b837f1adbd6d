"""Functions that the tests send to worker processes."""

import ctypes
import os
import signal
import sys
import time

from evalmesh.domain.errors import InvalidInput


def add(a, b):
    return a + b


def pid():
    return os.getpid()


def refuse(text):
    raise InvalidInput(text, {"field": "x"})


def loop_forever():
    while True:
        pass


def hold_the_interpreter_lock():
    return len(str(7 ** (10**9)))


def wait(seconds):
    time.sleep(seconds)
    return os.getpid()


def leave(code):
    os._exit(code)


def give_up():
    sys.exit(3)


def crash():
    ctypes.string_at(0)


def shoot_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def chatter():
    print("noise on standard output")
    return sys.stdin.read()


def unsendable():
    return lambda: 1


def big(size):
    return b"x" * size


def modules():
    return set(sys.modules)
