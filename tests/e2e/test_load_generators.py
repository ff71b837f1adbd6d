"""Several generators are one; whoever dies is told, and the counts still add up to the plan."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.kit.nats import kill as kill_nats
from tests.kit.nats import running_server
from tests.kit.services import ServiceChild, service
from tests.kit.simulator import SimulatorProcess, simulator

from evalmesh.domain.load_test import (
    ArrivalSpec,
    Lengths,
    LoadLevel,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    PromptSpec,
)
from evalmesh.domain.state import State
from evalmesh.local.platform import LocalPlatform, open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]
HOSTED = frozenset({"gateway", "load_generator", "report_aggregator"})


@pytest.fixture(scope="module")
def model() -> Iterator[SimulatorProcess]:
    with simulator("--ttft", "30ms", "--itl", "5ms", "--truth") as it:
        yield it


def spec_of(model: SimulatorProcess, *levels: LoadLevel, arrival: str = "closed", **more: Any) -> LoadTestSpec:
    return LoadTestSpec(
        LoadTarget(f"{model.url}/chat/completions", "simulated"),
        PromptSpec("random", input_tokens=Lengths("fixed", 24, 24), output_tokens=Lengths("fixed", 8, 8)),
        ArrivalSpec(arrival),
        levels,
        server_metrics=(),
        **more,
    )


@asynccontextmanager
async def opened(
    work_dir: Path, generators: int, *, processes: bool = False
) -> AsyncIterator[tuple[LocalPlatform, AsyncClient]]:
    settings = LocalSettings(work_dir, processes=processes, generators=generators, ack_wait_s=2.0, hosted=HOSTED)
    async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
        yield platform, client


async def to_end(client: AsyncClient, test: LoadTest, within_s: float = 60.0) -> tuple[LoadTest, dict[str, Any]]:
    ended = await asyncio.wait_for(client.wait_load_test(test), within_s)
    return ended, await client.perf_report(ended)


async def until_sent(client: AsyncClient, test: LoadTest, sent: int, level: int = 0) -> None:
    """Returns when this many requests of a level were sent."""
    async for now, snapshot in client.watch_load_test(test):
        assert not now.state.terminal, f"the load test ended before the trouble began: {now}"
        if snapshot is not None and snapshot.level_index == level and snapshot.sent >= sent:
            return


def engines_of(parent: int) -> list[int]:
    """Engine processes among the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                ppid = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ProcessLookupError):
                continue
            if ppid == parent and b"evalmesh.load_generator.engine" in command:
                found.append(int(entry.name))
    return found


def check_counts(level: dict[str, Any]) -> None:
    """docs/perf-schema.md: the counts of a level are its plan."""
    assert level["planned"] == level["sent"] + level["unsent"] + level["skipped"] + level["lost"]
    assert level["sent"] == level["requests"] == level["ok"] + sum(level["errors"].values())


class TestScaleOut:
    @pytest.mark.parametrize("generators", [1, 2, 4])
    async def test_any_number_of_generators_sends_the_same_requests(self, tmp_path, model, generators) -> None:
        model.reset()
        async with opened(tmp_path, generators) as (_, client):
            spec = spec_of(
                model,
                LoadLevel(parallel=8, number=120),
                LoadLevel(parallel=1, number=5),
                generators=generators,
            )
            test, perf = await to_end(client, await client.create_load_test(spec))
        assert (test.state, test.error) == (State.SUCCEEDED, "")
        wide, narrow = perf["levels"]
        check_counts(wide)
        assert (wide["ok"], wide["errors"], wide["lost"]) == (120, {}, 0)
        assert [one["requests"] for one in wide["generators"]] == [120 // generators] * generators
        assert sum(one["cap"] for one in wide["generators"]) == 8
        # One slot is one generator's, however many there are.
        assert [one["requests"] for one in narrow["generators"]] == [5]
        assert model.stats()["max_in_flight"] == 8

    async def test_open_loop_is_one_schedule_whoever_sends(self, tmp_path, model) -> None:
        """Gaps of the union are those of a constant rate: 50 per second from three generators are 20 ms apart."""
        model.reset()
        async with opened(tmp_path, 3) as (_, client):
            spec = spec_of(model, LoadLevel(rate=50, number=150), arrival="constant", generators=3)
            test, perf = await to_end(client, await client.create_load_test(spec))
        assert test.state is State.SUCCEEDED
        level = perf["levels"][0]
        check_counts(level)
        assert level["ok"] == 150
        arrivals = sorted(one["arrived_s"] for one in model.truth() if one["tokens"] == 8)[-150:]
        gaps = sorted(after - before for before, after in pairwise(arrivals))
        assert arrivals[-1] - arrivals[0] == pytest.approx(149 / 50, rel=0.005)
        assert gaps[len(gaps) // 2] == pytest.approx(0.020, abs=0.002)
        assert all(one["clock_error_s"] == 0 for one in level["generators"]), "one machine has one clock"


class TestDeaths:
    async def test_an_engine_that_dies_is_told_and_its_seat_is_taken_again(self, tmp_path, model) -> None:
        async with opened(tmp_path, 2) as (_, client):
            spec = spec_of(model, LoadLevel(parallel=4, number=160), LoadLevel(parallel=4, number=40), generators=2)
            test = await client.create_load_test(spec)
            await until_sent(client, test, 20)
            os.kill(engines_of(os.getpid())[0], signal.SIGKILL)
            ended, perf = await to_end(client, test)
        assert (ended.state, ended.error) == (State.SUCCEEDED, "")
        hit, next_one = perf["levels"]
        check_counts(hit)
        assert hit["planned"] == 160
        assert 80 <= hit["ok"] < 160
        assert hit["lost"] > 0
        assert [one["lost"] for one in hit["generators"]].count(True) == 1
        assert any("SIGKILL" in note or "lost" in note for note in hit["notes"])
        check_counts(next_one)
        assert (next_one["ok"], next_one["lost"]) == (40, 0)
        assert len(next_one["generators"]) == 2

    async def test_a_service_that_dies_takes_its_load_test_with_it_and_the_report_says_so(
        self, tmp_path, model
    ) -> None:
        async with opened(tmp_path, 1, processes=True) as (platform, client):
            spec = spec_of(model, LoadLevel(parallel=2, number=10), LoadLevel(parallel=2, duration_s=30.0))
            test = await client.create_load_test(spec)
            await until_sent(client, test, 10, level=1)
            os.kill(platform.processes.children["load_generator"].process.pid, signal.SIGKILL)
            ended, perf = await to_end(client, test)
        assert ended.state is State.FAILED
        assert "interrupted" in ended.error
        assert perf["levels"][0]["ok"] == 10
        assert perf["levels"][1]["state"] == "failed"

    async def test_the_bus_may_die_while_load_is_sent(self, tmp_path, model) -> None:
        async with opened(tmp_path, 2) as (platform, client):
            spec = spec_of(model, LoadLevel(parallel=4, number=240), LoadLevel(parallel=2, number=20), generators=2)
            test = await client.create_load_test(spec)
            await until_sent(client, test, 20)
            kill_nats(platform.nats.server)
            ended, perf = await to_end(client, test)
        assert (ended.state, ended.error) == (State.SUCCEEDED, "")
        for level in perf["levels"]:
            check_counts(level)
            assert (level["lost"], level["errors"]) == (0, {})
        assert [level["ok"] for level in perf["levels"]] == [240, 20]

    async def test_another_conductor_goes_on_where_one_died(self, tmp_path, model) -> None:
        """The seat goes on sending without a conductor; the next one collects what it sent, and leads on."""
        with running_server(tmp_path / "nats") as nats, ExitStack() as stack:
            base = {
                "EVALMESH_BUS_URL": nats.url,
                "EVALMESH_OBJECTS_URL": (tmp_path / "objects").as_uri(),
                "EVALMESH_ACK_WAIT_S": "2",
            }
            conducts = {**base, "EVALMESH_LOAD_GENERATOR_SEATS": "0"}
            first = stack.enter_context(service("load_generator", conducts))
            stack.enter_context(service("report_aggregator", base))
            address = {"EVALMESH_GATEWAY_LOAD_GENERATOR_ADDRESS": first.address}
            gateway = stack.enter_context(service("gateway", {**base, **address}))
            seat = {**base, "EVALMESH_LOAD_GENERATOR_CONDUCTORS": "0", "EVALMESH_LOAD_GENERATOR_SEATS": "1"}
            stack.enter_context(service("load_generator", seat))
            async with AsyncClient(gateway.address) as client:
                spec = spec_of(model, LoadLevel(parallel=4, number=300), LoadLevel(parallel=2, number=20))
                test = await client.create_load_test(spec)
                await until_sent(client, test, 20)
                first.signal(signal.SIGKILL)
                stack.enter_context(service("load_generator", conducts))
                ended, perf = await to_end(client, test)
        assert (ended.state, ended.error) == (State.SUCCEEDED, "")
        assert ended.attempt == 2
        assert [(level["ok"], level["lost"]) for level in perf["levels"]] == [(300, 0), (20, 0)]


class TestCancel:
    async def test_what_was_measured_is_reported(self, tmp_path, model) -> None:
        async with opened(tmp_path, 2) as (_, client):
            spec = spec_of(
                model, LoadLevel(parallel=4, duration_s=60.0), LoadLevel(parallel=2, number=20), generators=2
            )
            test = await client.create_load_test(spec)
            await until_sent(client, test, 20)
            began_s = asyncio.get_running_loop().time()
            await client.cancel_load_test(test)
            ended, perf = await to_end(client, test)
            took_s = asyncio.get_running_loop().time() - began_s
        assert ended.state is State.CANCELLED
        assert len(perf["levels"]) == 1
        level = perf["levels"][0]
        check_counts(level)
        assert level["state"] == "cancelled"
        assert level["ok"] >= 15
        assert took_s < 10, "a cancel is prompt"


def test_engines_end_with_the_service_they_belong_to(tmp_path) -> None:
    with running_server(tmp_path / "nats") as nats:
        base = {"EVALMESH_BUS_URL": nats.url, "EVALMESH_OBJECTS_URL": (tmp_path / "o").as_uri()}
        with service("load_generator", base) as child:
            engines = _wait_for_engines(child)
            child.signal(signal.SIGKILL)
            child.wait()
            assert _gone(engines), "engines end with the service they belong to"


def _wait_for_engines(child: ServiceChild) -> list[int]:
    for _ in range(100):
        if found := engines_of(child.process.pid):
            return found
        signal.sigtimedwait([], 0.1)
    raise AssertionError("the service started no engine")


def _gone(pids: list[int]) -> bool:
    for _ in range(50):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        signal.sigtimedwait([], 0.1)
    return False
