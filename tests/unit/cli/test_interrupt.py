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
