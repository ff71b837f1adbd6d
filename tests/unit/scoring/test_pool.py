"""Worker processes that hang, crash and are killed cost one call each."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pool_calls
import pytest
from tests.kit.processes import gone

from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InternalError, InvalidInput
from evalmesh.scorer.calls import HEADER, MARK
from evalmesh.scorer.pool import CallRaisedError, KillablePool


@pytest.fixture
async def pool():
    pool = KillablePool(1)
    yield pool
    await pool.close()


async def test_calls_run_elsewhere_and_keep_their_process(pool):
    assert pool.pids == ()
    assert await pool.run(pool_calls.add, 2, 3, deadline_s=10) == 5
    first = await pool.run(pool_calls.pid, deadline_s=10)
    assert first != os.getpid()
    assert (await pool.run(pool_calls.pid, deadline_s=10), pool.pids) == (first, (first,))
    assert len(await pool.run(pool_calls.big, 3_000_000, deadline_s=10)) == 3_000_000


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (pool_calls.refuse, ("no good",), "InvalidInput: no good"),
        (pool_calls.dig, (), "RecursionError: maximum recursion"),
        (pool_calls.raise_something_unspeakable, (), "Unspeakable: "),
        (pool_calls.raise_half_a_letter, (), "ValueError: "),
        (pool_calls.unsendable, (), "TypeError: .*function"),
        (pool_calls.add, (1, "2"), "ValidationError: Expected `int`, got `str`"),
        (pool_calls.big, (20 << 20,), "ValueError: the result has"),
    ],
)
async def test_what_a_call_raises_reaches_the_caller_and_the_worker_stays(pool, function, args, said):
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    with pytest.raises(CallRaisedError, match=f"^{said}"):
        await pool.run(function, *args, deadline_s=10)
    assert await pool.run(pool_calls.pid, deadline_s=10) == pid


@pytest.mark.parametrize("stuck", [pool_calls.loop_forever, pool_calls.hold_the_interpreter_lock])
async def test_a_stuck_worker_is_killed_and_replaced(pool, stuck):
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        await pool.run(stuck, deadline_s=0.2)
    assert gone(pid)
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
    assert gone(pid)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


async def test_output_and_input_of_a_function_do_not_disturb_it(pool):
    assert await pool.run(pool_calls.chatter, deadline_s=10) == ""


async def test_what_cannot_travel_is_refused_by_name(pool):
    with pytest.raises(InvalidInput, match="top-level"):
        await pool.run(lambda: 1, deadline_s=10)
    with pytest.raises(InvalidInput, match="type of a, b, return"):
        await pool.run(pool_calls.untyped, 1, 2, deadline_s=10)
    with pytest.raises(InvalidInput, match="cannot be sent"):
        await pool.run(pool_calls.add, 1, object(), deadline_s=10)


@pytest.mark.parametrize(
    "garbage",
    [
        b"A",
        b"A" * 8,
        b"A" * 5000,
        HEADER.pack(MARK, 1, 5) + b"hello",
        HEADER.pack(MARK, 2, 5) + b"hello",
        HEADER.pack(MARK, 2, 1 << 30),
        HEADER.pack(MARK, 3, 0),
        # What a worker would say about the calls before and after this one.
        HEADER.pack(MARK, 1, 6) + b"\x82\xa4type",
    ],
)
async def test_garbage_costs_the_call_that_wrote_it_alone(pool, garbage):
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    with pytest.raises(InternalError, match="did not give a result"):
        await pool.run(pool_calls.rave, garbage, deadline_s=10)
    assert gone(pid)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


async def test_a_result_of_another_type_is_none(pool):
    with pytest.raises(InternalError, match=r"did not give a result.*Expected `int`"):
        await pool.run(pool_calls.another_type, deadline_s=10)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


@pytest.mark.parametrize(
    ("function", "args"),
    [(pool_calls.eat_at_once, (2 << 30,)), (pool_calls.eat_piece_by_piece, ()), (pool_calls.explode, ())],
)
async def test_a_call_that_wants_too_much_memory_fails_alone(function, args):
    pool = KillablePool(1, memory_bytes=256 << 20)
    pid = await pool.run(pool_calls.pid, deadline_s=10)
    with pytest.raises(CallRaisedError, match=r"^MemoryError"):
        await pool.run(function, *args, deadline_s=30)
    assert await pool.run(pool_calls.eat_at_once, 100 << 20, deadline_s=10) == 100 << 20
    assert await pool.run(pool_calls.pid, deadline_s=10) != pid
    await pool.close()


async def test_a_call_may_use_as_much_processor_time_as_its_deadline_is_long(pool):
    for deadline_s in (40, 10):
        used_s, may_use_s = await pool.run(pool_calls.processor_time, deadline_s=deadline_s)
        assert used_s < may_use_s <= used_s + deadline_s + 2
    with pytest.raises(InternalError, match=r"SIGXCPU.*more processor time"):
        await pool.run(pool_calls.use_it_up, deadline_s=10)
    assert await pool.run(pool_calls.add, 1, 1, deadline_s=10) == 2


async def test_a_worker_leaves_no_files(pool, tmp_path):
    assert await pool.run(pool_calls.write_file, str(tmp_path / "large"), 1 << 20, deadline_s=10) == "File too large"
    assert (tmp_path / "large").stat().st_size <= 64 << 10
    assert await pool.run(pool_calls.limits, deadline_s=10) == {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": 64 << 10}


async def test_a_worker_knows_no_keys(pool, monkeypatch):
    for name in ("OPENAI_API_KEY", "EVALMESH_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_THING", "PYTHON_KEY", "LC_TOKEN_1"):
        monkeypatch.setenv(name, "sesame")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    known = await pool.run(pool_calls.environment, deadline_s=10)
    assert "sesame" not in known.values()
    assert (known["LC_ALL"], known["PATH"]) == ("C.UTF-8", os.environ["PATH"])


async def test_what_a_worker_writes_is_logged_but_never_a_flood_of_it(pool, caplog):
    assert await pool.run(pool_calls.flood, 4 << 20, deadline_s=30) == 4 << 20
    await pool.close()
    assert sum(len(record.getMessage()) for record in caplog.records) < 1 << 20
    assert "is not shown" in caplog.text


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
    assert gone(pid)
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
    assert all(gone(pid) for pid in pids)
