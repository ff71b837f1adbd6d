"""Worker processes that hang, crash and are killed cost one call each."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pool_calls
import pytest

from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InternalError, InvalidInput
from evalmesh.scorer.pool import KillablePool


@pytest.fixture
async def pool():
    pool = KillablePool(1)
    yield pool
    await pool.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, limit_s: float = 10.0) -> bool:
    end = time.monotonic() + limit_s
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)


async def test_calls_run_elsewhere_and_keep_their_process(pool):
    assert pool.pids == ()
    assert await pool.run(pool_calls.add, 2, 3, deadline_s=10) == 5
    first = await pool.run(pool_calls.pid, deadline_s=10)
    assert first != os.getpid()
    assert (await pool.run(pool_calls.pid, deadline_s=10), pool.pids) == (first, (first,))
    assert len(await pool.run(pool_calls.big, 3_000_000, deadline_s=10)) == 3_000_000


async def test_what_a_function_raises_reaches_the_caller(pool):
    with pytest.raises(InvalidInput, match="no good") as caught:
        await pool.run(pool_calls.refuse, "no good", deadline_s=10)
    assert caught.value.details == {"field": "x"}
    with pytest.raises(TypeError):
        await pool.run(pool_calls.add, 1, "2", deadline_s=10)


@pytest.mark.parametrize("stuck", [pool_calls.loop_forever, pool_calls.hold_the_interpreter_lock])
async def test_a_stuck_worker_is_killed_and_replaced(pool, stuck):
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        await pool.run(stuck, deadline_s=0.2)
    assert wait_until_gone(pid)
    assert await pool.run(pool_calls.pid, deadline_s=10) != pid


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        (pool_calls.leave, (5,), "exit code 5"),
        (pool_calls.give_up, (), "exit code 3"),
        (pool_calls.crash, (), "SIGSEGV"),
        (pool_calls.shoot_oneself, (), "SIGKILL"),
    ],
)
async def test_a_crash_fails_its_own_call_only(pool, function, args, reason):
    with pytest.raises(InternalError, match=reason):
        await pool.run(function, *args, deadline_s=10)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


async def test_a_worker_killed_while_idle_costs_no_call(pool):
    os.kill(await pool.run(pool_calls.pid, deadline_s=10), signal.SIGKILL)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


async def test_a_worker_killed_at_work_fails_that_call(pool):
    await pool.run(pool_calls.pid, deadline_s=10)
    call = asyncio.create_task(pool.run(pool_calls.wait, 30, deadline_s=60))
    await asyncio.sleep(0.1)
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(InternalError, match="SIGKILL"):
        await call


async def test_a_cancelled_call_frees_its_place(pool):
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    call = asyncio.create_task(pool.run(pool_calls.wait, 30, deadline_s=60))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert wait_until_gone(pid)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


async def test_output_and_input_of_a_function_do_not_disturb_it(pool):
    assert await pool.run(pool_calls.chatter, deadline_s=10) == ""


async def test_what_cannot_travel_is_refused_by_name(pool):
    with pytest.raises(InvalidInput, match="top-level"):
        await pool.run(lambda: 1, deadline_s=10)
    with pytest.raises(InternalError, match="cannot be sent back"):
        await pool.run(pool_calls.unsendable, deadline_s=10)


async def test_calls_share_the_workers_there_are():
    pool = KillablePool(2, preload=["fractions"])
    pids = await asyncio.gather(*(pool.run(pool_calls.wait, 0.01, deadline_s=10) for _ in range(8)))
    assert len(set(pids)) == 2
    assert "fractions" in await pool.run(pool_calls.modules, deadline_s=10)
    await pool.close()


async def test_closing_ends_workers_and_the_calls_in_them():
    pool = KillablePool(1)
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    call = asyncio.create_task(pool.run(pool_calls.loop_forever, deadline_s=60))
    await asyncio.sleep(0.05)
    await pool.close()
    with pytest.raises(InternalError):
        await call
    assert wait_until_gone(pid)
    with pytest.raises(FailedPrecondition, match="closed"):
        await pool.run(pool_calls.pid, deadline_s=10)
    await pool.close()


def test_a_pool_needs_a_worker():
    with pytest.raises(InvalidInput, match="0"):
        KillablePool(0)


_PARENT = """
import asyncio, sys
import pool_calls
from evalmesh.scorer.pool import KillablePool

async def main():
    pool = KillablePool(2)
    pids = await asyncio.gather(*(pool.run(pool_calls.wait, 0.3, deadline_s=10) for _ in range(2)))
    print(*pids, flush=True)
    call = getattr(pool_calls, sys.argv[1])
    await asyncio.gather(*(pool.run(call, deadline_s=0.5) for _ in range(1)))

asyncio.run(main())
"""


@pytest.mark.parametrize("call", ["loop_forever", pytest.param("hold_the_interpreter_lock", marks=pytest.mark.slow)])
def test_workers_do_not_outlive_a_killed_parent(call):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", _PARENT, call], stdout=subprocess.PIPE, env=environment) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(0.1)
        parent.kill()
    assert len(pids) == 2
    assert all(wait_until_gone(pid) for pid in pids)
