"""The platform on one machine, at whatever address, and how others find it."""

import json
import os
from pathlib import Path

import pytest
from tests.kit.platform import run_to_end
from tests.kit.simulator import simulator

from evalmesh.domain.errors import FailedPrecondition, Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.local.platform import open_platform
from evalmesh.local.remembered import begin, remember, remembered
from evalmesh.local.settings import LocalSettings, peer_address
from evalmesh.runtime.hosts import Host, lives, living_host, living_hosts
from evalmesh.runtime.private_files import private_folder
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
    assert not living_hosts(settings.hosts_dir)
    with simulator("--benchmarks", "starter_mcq") as model:
        async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
            assert platform.address.rpartition(":")[0] == host
            assert living_hosts(settings.hosts_dir)[""].address == platform.address
            assert settings.token_file.read_text(encoding="utf-8") == platform.token
            spec = RunSpec(ModelSpec("simulated", url=model.url), (BenchmarkSpec("starter_mcq", limit=5),))
            assert (await run_to_end(client, spec)).state is RunState.SUCCEEDED
    assert not living_hosts(settings.hosts_dir)


async def test_a_service_that_does_not_start_is_told_and_the_others_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALMESH_SCORER_PROCESSES", "0")
    with pytest.raises(Unavailable, match=r"(?s)scorer ended with exit code 2 .*EVALMESH_SCORER_PROCESSES"):
        async with open_platform(LocalSettings(tmp_path, processes=True)):
            pass
    assert own_services() == []


def test_a_host_that_was_killed_is_not_believed_whoever_has_its_process_id_now(tmp_path):
    for name in ("shared", "host-1"):
        said = json.dumps({"address": "127.0.0.1:9", "token_file": "", "pid": os.getpid()})
        (tmp_path / f"{name}.host").write_text(said)
    assert not lives(tmp_path, "host-1")
    assert living_hosts(tmp_path) == {}
    assert [one.name for one in tmp_path.iterdir()] == ["shared.host"]


def test_hosts_live_as_long_as_they_say_and_one_without_a_name_is_alone(tmp_path):
    with living_host(tmp_path, "host-1") as one, living_host(tmp_path, "host-2"), living_host(tmp_path, ""):
        one.say(Host("127.0.0.1:7", "token", 5))
        assert living_hosts(tmp_path)["host-1"] == Host("127.0.0.1:7", "token", 5)
        assert set(living_hosts(tmp_path)) == {"", "host-1", "host-2"}
        with pytest.raises(FailedPrecondition, match="in use by the platform of process"), living_host(tmp_path, ""):
            pass
    assert living_hosts(tmp_path) == {}
    with living_host(tmp_path, ""):
        assert lives(tmp_path, "")


def test_where_a_server_is_found():
    assert peer_address(":0", 7) == "127.0.0.1:7"
    assert peer_address("192.168.1.4:9090", 9090) == "192.168.1.4:9090"
    assert peer_address("[fe80::1]:0", 7) == "[fe80::1]:7"


def test_what_was_remembered_counts_until_somebody_may_have_changed_it(tmp_path):
    settings = LocalSettings(tmp_path, host="host-1")
    looks = LocalSettings(tmp_path, host="host-2", only_looks=True)
    private_folder(settings.state_dir)
    run = Run("r1", RunSpec(ModelSpec("m"), (BenchmarkSpec("b"),)), RunState.SUCCEEDED, 1.0)
    generation = begin(settings)
    with living_host(settings.hosts_dir, "host-1"):
        remember(settings, generation, [run])
        assert remembered(settings) is None, "a platform is running"
    assert remembered(settings) == [run]
    assert begin(looks) == generation
    assert remembered(settings) == [run], "a look changes nothing"
    later = begin(settings)
    assert remembered(settings) is None, "it may have been killed since"
    remember(settings, generation, [run])
    assert remembered(settings) is None, "that one is not the newest"
    with living_host(settings.hosts_dir, "host-1"), living_host(settings.hosts_dir, "host-3"):
        remember(settings, later, [run])
    assert remembered(settings) is None, "another one was at work still"
