"""The platform on one machine, at whatever address, and how others find it."""

import json
import os
from pathlib import Path

import pytest
from tests.kit.platform import run_to_end
from tests.kit.simulator import simulator

from evalmesh.domain.errors import Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.local.platform import live_address, open_platform
from evalmesh.local.settings import LocalSettings, peer_address
from evalmesh.sdk import AsyncClient


def own_services() -> list[str]:
    children = " ".join(task.read_text() for task in Path("/proc/self/task").glob("*/children")).split()
    return [one for one in children if b"evalmesh." in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("address", "processes", "host"),
    [
        ("127.0.0.2:0", False, "127.0.0.2"),
        ("127.0.0.2:0", True, "127.0.0.2"),
        ("0.0.0.0:0", False, "127.0.0.1"),
        ("[::]:0", False, "[::1]"),
        ("localhost:0", False, "localhost"),
    ],
)
async def test_runs_are_accepted_at_whatever_address_the_platform_listens(tmp_path, address, processes, host):
    settings = LocalSettings(tmp_path, processes=processes, address=address)
    assert live_address(settings) is None
    with simulator("--benchmarks", "starter_mcq") as model:
        async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
            assert platform.address.rpartition(":")[0] == host
            assert live_address(settings) == platform.address
            spec = RunSpec(ModelSpec("simulated", url=model.url), (BenchmarkSpec("starter_mcq", limit=5),))
            assert (await run_to_end(client, spec)).state is RunState.SUCCEEDED
    assert live_address(settings) is None


async def test_a_service_that_does_not_start_is_told_and_the_others_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALMESH_SCORER_PROCESSES", "0")
    with pytest.raises(Unavailable, match=r"(?s)scorer ended with exit code 2 .*EVALMESH_SCORER_PROCESSES"):
        async with open_platform(LocalSettings(tmp_path, processes=True)):
            pass
    assert own_services() == []


def test_an_address_that_was_left_behind_is_not_trusted_whoever_has_its_process_id_now(tmp_path):
    settings = LocalSettings(tmp_path)
    settings.state_dir.mkdir()
    (settings.state_dir / "platform.json").write_text(json.dumps({"address": "127.0.0.1:9", "pid": os.getpid()}))
    assert live_address(settings) is None


def test_where_a_server_is_found():
    assert peer_address(":0", 7) == "127.0.0.1:7"
    assert peer_address("192.168.1.4:9090", 9090) == "192.168.1.4:9090"
    assert peer_address("[fe80::1]:0", 7) == "[fe80::1]:7"
