import os
import pty
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import asyncio
from evalmesh.cli.platform.session import run_async

async def work():
    print("ready", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep({tidy_s})
        print("tidy", flush=True)

try:
    run_async(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(130)
"""


@pytest.mark.parametrize(
    ("tidy_s", "pauses_s", "said"),
    [
        (0.1, (0.0, 0.0), "tidy\ninterrupted\n"),  # one press, delivered twice
        (30, (0.0, 0.6), ""),  # the second press does not wait
    ],
)
def test_first_interrupt_tidies_up_and_the_second_ends_at_once(tidy_s, pauses_s, said):
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(tidy_s=tidy_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    for pause_s in pauses_s:
        time.sleep(pause_s)
        child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (130, said)
    assert "once more" in err


@pytest.fixture(autouse=True)
def _hears_of_the_terminal():
    """Whoever runs the tests may have been started to outlive theirs, which children inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_it_is_told_how_it_went(number):
    words = [sys.executable, "-c", SCRIPT.format(tidy_s=0.1)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (130, "tidy\ninterrupted\n")
    assert "stopping" in err


def test_a_terminal_that_is_closed_ends_it_in_order_although_nothing_can_be_said_there():
    ours, theirs = pty.openpty()
    script = SCRIPT.format(tidy_s=0.1).replace(
        'print("tidy", flush=True)',
        'print("tidy", flush=True); print("tidy", file=__import__("sys").stderr, flush=True)',
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while b"\n" not in said:
        said += os.read(ours, 100)
    os.close(ours)
    child.send_signal(signal.SIGHUP)
    assert child.wait(20) == 130


def test_who_was_started_to_outlive_the_terminal_does():
    words = [sys.executable, "-c", SCRIPT.format(tidy_s=0.1)]
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    child = subprocess.Popen([sys.executable, "-c", ignoring, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err.count(b"stopping")) == (130, b"tidy\ninterrupted\n", 1)
