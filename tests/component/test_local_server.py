"""Local engines: started, waited for, stopped, and what is said when they die. The engine is the simulator."""

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from tests.kit.processes import gone

from evalmesh.cli.perf.local_server import serving
from evalmesh.domain.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Unavailable

SIMULATOR = f"{shlex.quote(sys.executable)} -m evalmesh.simulator --port {{port}} --model {{model}}"


def python(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {{port}}"


def started(tmp_path: Path, command: str | None = SIMULATOR, kind: str = "local", **options):
    options = {"command": command, "log_file": tmp_path / "outputs/server.log", "ready_timeout_s": 60.0, **options}
    return serving(kind, "tiny", **options)


def models(url: str) -> list[str]:
    return [one["id"] for one in json.loads(fetched(f"{url}/models"))["data"]]


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def wait_for(path: Path, within_s: float = 30.0) -> str:
    deadline = time.monotonic() + within_s
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
    return path.read_text().strip()


async def test_a_server_is_there_within_the_context_and_gone_after_it(tmp_path):
    async with started(tmp_path) as url:
        assert url.endswith("/v1")
        assert models(url) == ["tiny"]
    with pytest.raises(OSError, match=r"refused|reset"):
        models(url)
    log = (tmp_path / "outputs/server.log").read_text()
    assert log.startswith("$ ")
    assert "evalmesh simulator: http://127.0.0.1:" in log


async def test_a_server_is_stopped_when_the_work_fails(tmp_path):
    with pytest.raises(RuntimeError, match="the work"):
        async with started(tmp_path) as url:
            raise RuntimeError("the work failed")
    with pytest.raises(OSError, match=r"refused|reset"):
        models(url)


async def test_the_asked_port_is_used_and_can_be_used_again(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        async with started(tmp_path, port=port) as url:
            assert url == f"http://127.0.0.1:{port}/v1"
            models(url)


async def test_a_port_that_is_taken_is_refused_and_nothing_is_started(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"Port {port} cannot be listened on"):
            async with started(tmp_path, port=port):
                pass
    assert not (tmp_path / "outputs").exists()


@pytest.mark.alone
async def test_a_crash_at_start_is_told_at_once_with_the_end_of_the_log(tmp_path):
    code = "import sys; print('loading'); sys.stdout.flush(); sys.exit('CUDA error: out of memory')"
    begun_s = time.monotonic()
    with pytest.raises(Unavailable) as told:
        async with started(tmp_path, python(code)):
            pass
    assert time.monotonic() - begun_s < 30, "long before the time to get ready is over"
    assert "ended with exit code 1" in told.value.message
    assert "CUDA error: out of memory" in told.value.message
    assert "server.log" in told.value.message


async def test_a_crash_in_mid_life_is_told_at_the_end(tmp_path):
    async def work():
        async with started(tmp_path) as url:
            models(url)
            pid = engine_pid(url)
            os.kill(pid, signal.SIGKILL)
            assert gone(pid)
            await asyncio.sleep(0.3)

    with pytest.raises(Unavailable, match="ended with SIGKILL"):
        await work()


def engine_pid(url: str) -> int:
    """Who listens at the address: the youngest process that was given its port."""
    port = url.removesuffix("/v1").rpartition(":")[2]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"-m", b"evalmesh.simulator"] and port.encode() in words:
                found.append(int(folder.name))
    (pid,) = found
    return pid


async def test_an_error_of_the_work_is_not_hidden_by_a_crash(tmp_path):
    async def work():
        async with started(tmp_path) as url:
            os.kill(engine_pid(url), signal.SIGKILL)
            raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError, match="the work"):
        await work()


async def test_a_server_that_never_gets_ready_is_stopped(tmp_path):
    mark = tmp_path / "pid"
    say = f"print('loading', flush=True); open({str(mark)!r}, 'w').write(str(os.getpid()))"
    code = f"import os, time; {say}; time.sleep(99)"
    with pytest.raises(DeadlineExceeded, match=r"(?s)not ready within 2 s.*loading"):
        async with started(tmp_path, python(code), ready_timeout_s=2.0):
            pass
    assert gone(int(wait_for(mark)))


async def test_a_model_that_is_listed_before_it_is_loaded_is_waited_for(tmp_path):
    """As the llama.cpp server does."""
    code = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
begun = time.monotonic()
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        ready = time.monotonic() - begun > 1.5
        self.send_response(503 if self.path == "/health" and not ready else 200)
        self.end_headers()
        self.wfile.write(str(ready).encode())
HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
    async with started(tmp_path, python(code)) as url:
        assert fetched(f"{url}/anything") == b"True"


async def test_a_server_that_ignores_the_request_to_end_is_made_to(tmp_path, monkeypatch):
    monkeypatch.setattr("evalmesh.cli.perf.local_server._GRACE_S", 0.5)
    mark = tmp_path / "pids"
    code = f"""
import os, runpy, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
open({str(mark)!r}, "w").write(f"{{os.getpid()}} {{worker.pid}}")
from http.server import SimpleHTTPRequestHandler, HTTPServer
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""
    async with started(tmp_path, python(code)):
        pids = [int(word) for word in wait_for(mark).split()]
    assert gone(*pids), "with what it had started"


USER = """
import asyncio, signal, sys
from pathlib import Path
from evalmesh.cli.perf.local_server import serving

async def main():
    async with serving("local", "tiny", command=sys.argv[1], log_file=Path(sys.argv[2])) as url:
        print(url, flush=True)
        await asyncio.sleep(99)

# Where tests run in the background of a shell, an interrupt is ignored from the start; a user's terminal does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_who_started_it(tmp_path, number):
    user = subprocess.Popen(
        [sys.executable, "-c", USER, SIMULATOR, str(tmp_path / "server.log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with user:
        pid = engine_pid(user.stdout.readline().strip())
        user.send_signal(number)
        assert user.wait(30) != 0
        assert gone(pid)


def test_an_interrupt_while_it_is_waited_for_leaves_nothing(tmp_path):
    mark = tmp_path / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    with subprocess.Popen(
        [sys.executable, "-c", USER, python(code), str(tmp_path / "server.log")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as user:
        pid = int(wait_for(mark))
        user.send_signal(signal.SIGINT)
        assert user.wait(30) != 0
    assert gone(pid)


@pytest.mark.parametrize(
    ("kind", "options", "error", "text"),
    [
        ("local_tgi", {"command": None}, InvalidInput, "There is no local engine 'local_tgi'"),
        ("local_vllm", {"command": None, "attn_implementation": "sdpa"}, InvalidInput, "attn_implementation"),
        ("local", {"command": "serve --here"}, InvalidInput, r"\{port\}"),
        ("local", {"command": "serve '{port}"}, InvalidInput, "cannot be split"),
        ("local", {"command": "no-such-program {port}"}, FailedPrecondition, "no program 'no-such-program'"),
    ],
)
async def test_what_does_not_fit_is_refused(tmp_path, kind, options, error, text):
    with pytest.raises(error, match=text):
        async with started(tmp_path, kind=kind, **options):
            pass


@pytest.mark.parametrize("kind", ["local", "local_vllm"])
async def test_an_engine_that_is_not_installed_is_refused_with_ways_out(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(FailedPrecondition, match="pip install") as refused:
        async with started(tmp_path, None, kind):
            pass
    assert "--server-command" in refused.value.message


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("local_vllm", {}, "vllm serve tiny --host 127.0.0.1 --port"),
        ("local", {"attn_implementation": "sdpa"}, "transformers serve tiny --host 127.0.0.1 --port"),
    ],
)
async def test_engines_of_path_are_started_with_their_own_flags(tmp_path, monkeypatch, kind, options, expected):
    program = tmp_path / "bin" / expected.split()[0]
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "flags: $@"\nexec {sys.executable} -m evalmesh.simulator --port "$6"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    # Where transformers is installed, its program lies beside this Python, where ours would be found first.
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "no-scripts"))
    async with started(tmp_path, None, kind, **options) as url:
        models(url)
    log = (tmp_path / "outputs/server.log").read_text()
    assert expected in log
    if options:
        assert "--attn-implementation sdpa" in log
