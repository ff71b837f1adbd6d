"""Child processes: how they begin, how they end, and that nothing stays behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.kit.processes import gone

from evalmesh.domain.errors import Unavailable
from evalmesh.process.child import Child, Command, ending, last_lines
from evalmesh.process.environment import essentials, everything, without_keys
from evalmesh.process.piped import ChildGoneError, KeptChild, PipedChild


def wait_for(path: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.005)
    return [int(word) for word in path.read_text().split()]


def python(code: str, **how) -> Command:
    return Command([sys.executable, "-c", code], essentials(), **how)


FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, {handler})
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", deaf])
with open({mark!r}, "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}\\n")
{then}
"""


def family(mark: Path, handler: str = "signal.SIG_DFL", then: str = "time.sleep(99)") -> str:
    """A program with a child that takes no hint."""
    return FAMILY.format(mark=str(mark), handler=handler, then=then)


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL", "lambda *_: sys.exit(0)"])
def test_a_guarded_program_is_ended_with_all_it_started(tmp_path, handler):
    child = Child(python(family(tmp_path / "mark", handler), log=tmp_path / "log", guard_s=0.3))
    pids = wait_for(tmp_path / "mark")
    child.end(10)
    assert gone(*pids)
    assert not child.alive


@pytest.mark.parametrize(
    ("then", "how"),
    [
        ("sys.exit(0)", "exit code 0"),
        ("sys.exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL (it was killed, or the machine ran out of memory)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    ],
)
def test_a_guard_ends_as_its_program_does_and_leaves_nothing(tmp_path, then, how):
    child = Child(python(family(tmp_path / "mark", then=then), log=tmp_path / "log", guard_s=5))
    assert ending(child.ended.result(20)) == how
    assert gone(*wait_for(tmp_path / "mark"))
    child.end(0)


def test_a_killed_guard_takes_its_program_and_what_that_started_along(tmp_path):
    child = Child(python(family(tmp_path / "mark"), log=tmp_path / "log", guard_s=5))
    pids = wait_for(tmp_path / "mark")
    os.kill(child.pid, signal.SIGKILL)
    assert gone(*pids)
    child.end(0)


OWNER = """
import sys, time
from pathlib import Path
from evalmesh.process.child import Child, Command
child = Child(Command([sys.executable, "-c", sys.argv[1]], {}, log=Path(sys.argv[2]), guard_s=0.2))
time.sleep(99)
"""


def test_a_guarded_program_ends_with_an_owner_that_is_killed(tmp_path):
    words = [sys.executable, "-c", OWNER, family(tmp_path / "mark", "signal.SIG_IGN"), str(tmp_path / "log")]
    with subprocess.Popen(words) as owner:
        pids = wait_for(tmp_path / "mark")
        owner.kill()
    assert gone(*pids)


def test_an_end_is_seen_where_children_are_reaped_by_the_kernel():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        child = Child(python("print('over')"))
        assert child.ended.result(20) == 0
        child.end(0)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_a_program_says_is_in_its_log(tmp_path):
    log = tmp_path / "log"
    child = Child(python("print('one'); import sys; sys.exit('two')", log=log, guard_s=1))
    child.ended.result(20)
    child.end(0)
    assert sorted(last_lines(log, 5)) == ["one", "two"]
    assert last_lines(tmp_path / "none", 5) == []


def test_a_program_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Unavailable, match="no-such-program could not be started: No such file"):
        Child(Command(["no-such-program"], essentials()))
    guarded = Child(Command(["no-such-program"], essentials(), log=tmp_path / "log", guard_s=1))
    assert guarded.ended.result(20) == 127
    guarded.end(0)
    assert last_lines(tmp_path / "log", 1) == ["no-such-program: No such file or directory"]


async def test_a_child_that_is_not_ready_in_time_is_killed_and_not_waited_for(tmp_path):
    child = await PipedChild.start("sleeper", python(family(tmp_path / "mark", "signal.SIG_IGN")))
    pids = wait_for(tmp_path / "mark")
    with pytest.raises(Unavailable, match=r"sleeper was not ready within 0\.01 s"):
        await child.ready_line(0.01)
    assert gone(*pids)


async def test_a_child_that_ends_before_it_is_ready_says_how(caplog):
    child = await PipedChild.start("quitter", python("import sys; print('half', end=''); sys.exit('no such port')"))
    with pytest.raises(Unavailable, match="quitter ended with exit code 1 before it was ready"):
        await child.ready_line(20)
    await child.close(0)
    assert "no such port" in caplog.text, "what it writes to standard error is logged"


ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"


async def test_a_child_is_spoken_to_and_goes_when_its_input_closes():
    child = await PipedChild.start("echo", python(ECHO))
    child.say(b"hello\n")
    assert await child.ready_line(20) == "HELLO"
    child.hang_up()
    await child.close(20)
    assert await child.ended() == "exit code 0"
    with pytest.raises(ChildGoneError, match="echo"):
        child.say(b"hello\n")


DRAINS = """
import signal, sys, time
def drain(*_):
    open(sys.argv[1], "w").write("drained")
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
print("ready", flush=True)
time.sleep(99)
"""


async def test_a_kept_child_is_started_again_until_it_is_closed_and_drains(tmp_path):
    started: asyncio.Queue[PipedChild] = asyncio.Queue()
    failures = [False, True, False]

    async def start() -> PipedChild:
        if failures and failures.pop(0):
            raise Unavailable("not now")
        command = Command([sys.executable, "-c", DRAINS, str(tmp_path / "mark")], essentials())
        child = await PipedChild.start("kept", command)
        await child.ready_line(20)
        started.put_nowait(child)
        return child

    kept = KeptChild("kept", start)
    await kept.start()
    first = await started.get()
    first.kill()
    second = await asyncio.wait_for(started.get(), 20)
    assert (second.alive, kept.child is second, second.pid != first.pid) == (True, True, True)
    await kept.close(20)
    assert (tmp_path / "mark").read_text() == "drained"
    assert (second.alive, started.empty()) == (False, True)


KEYS = (
    "OPENAI_API_KEY",
    "EVALMESH_API_KEY",
    "openai_key",
    "AWS_SECRET_ACCESS_KEY",
    "HF_TOKEN",
    "MY_PASSWORD",
    "DB_PASS",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "OPENAI_APIKEY",
    "SECRET",
    "SENTRY_DSN",
)
HARMLESS = ("TOKENIZERS_PARALLELISM", "HTTP_PROXY", "EVALMESH_BUS_URL", "KEYBOARD", "MONKEY", "PASSAGE", "PWD")


@pytest.fixture
def environ(monkeypatch):
    for name in (*KEYS, *HARMLESS):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    monkeypatch.setenv("PYTHONHASHSEED", "7")


def test_essentials_are_what_every_program_needs(environ):
    found = essentials()
    assert not {*KEYS, *HARMLESS} & set(found)
    assert {"PATH", "LC_CTYPE", "PYTHONHASHSEED"} <= set(found)


def test_keys_are_known_by_their_names(environ):
    found = without_keys(keep=("AWS_*",))
    assert set(KEYS) & set(found) == {"AWS_SECRET_ACCESS_KEY"}
    assert set(HARMLESS) <= set(found)


def test_everything_is_all_but_what_is_named(environ):
    assert set(os.environ) - set(everything(but=("HF_TOKEN",))) == {"HF_TOKEN"}
