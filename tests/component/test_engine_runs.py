"""Runs over an engine of our own: the model runner with all its wiring, and engine processes that die."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kit.echo_engine import ENGINES
from tests.kit.hosting import hosted
from tests.kit.services import plan_run, write_questions

from evalmesh.adapters.connections import Connections
from evalmesh.adapters.engines.house import House, HouseRules
from evalmesh.adapters.environment import SystemClock
from evalmesh.domain.completion import Completion
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.domain.work import Queue
from evalmesh.model_runner import service as model_runner
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.wire.runs.shard_files import RunFiles

NAME = "general_mcq"


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    args = {"diary": str(tmp_path / "diary"), "pause_s": 0.05}
    return ModelSpec(str(folder), engine="transformers", args=args, concurrency=4)


@asynccontextmanager
async def running(opened: Connections) -> AsyncIterator[None]:
    house = House(HouseRules(), engines=ENGINES)
    service = model_runner.build(
        settings=ModelRunnerSettings(drain_s=0.2),
        runs=opened.runs,
        bus=opened.bus,
        signals=opened.signals,
        objects=opened.objects,
        open_endpoint=house.open,
        clock=SystemClock(),
    )
    async with hosted(replace(service, close=house.close)):
        yield


def spec_of(tmp_path: Path, model: ModelSpec, count: int) -> RunSpec:
    path = write_questions(tmp_path / "questions.jsonl", count)
    return RunSpec(model, (BenchmarkSpec(NAME, local_path=str(path)),), shard_size=10)


def diary(tmp_path: Path) -> list[list[str]]:
    """Process, what it did, and with which request."""
    path = tmp_path / "diary"
    lines = path.read_text().splitlines() if path.exists() else []
    return [[process, *deed] for process, _, *deed in map(str.split, lines)]


def asked(tmp_path: Path) -> Counter[str]:
    return Counter(deed[-1] for deed in diary(tmp_path) if deed[1] == "ask")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - files and other processes tell no event
            await asyncio.sleep(0.01)


async def until_scored(opened: Connections, shards: int) -> None:
    async with asyncio.timeout(60):
        while await opened.bus.backlog(Queue.SCORE) != shards:  # noqa: ASYNC110 - a queue has no event for it
            await asyncio.sleep(0.02)


async def completions(opened: Connections, shards: int) -> list[Completion]:
    stage = RunFiles(opened.objects).of("r1", NAME).of("generate")
    return [one for shard in range(shards) for one in await stage.read_completions(shard)]


async def test_an_engine_killed_in_a_run_costs_what_was_in_flight_and_nothing_else(
    opened: Connections, tmp_path: Path, model: ModelSpec
) -> None:
    await plan_run(opened, "r1", spec_of(tmp_path, model, 60))
    async with running(opened):
        for number in range(1, 3):
            await until(lambda: len(asked(tmp_path)) > 15 * number)  # noqa: B023 - waited for in the loop
            os.kill(int(diary(tmp_path)[-1][0]), signal.SIGKILL)
        await until_scored(opened, 6)
    answers = await completions(opened, 6)
    assert len(answers) == 60
    assert all(one.error is None and one.text for one in answers)
    again = {name for name, times in asked(tmp_path).items() if times > 1}
    assert len(again) <= 2 * model.concurrency
    assert {one.request_id for one in answers if one.tries > 1} == again


async def test_a_cancelled_run_leaves_the_engine_at_once(opened: Connections, tmp_path: Path, model: ModelSpec) -> None:
    slow = replace(model, args={**model.args, "pause_s": 3600})
    await plan_run(opened, "r1", spec_of(tmp_path, slow, 20))
    async with running(opened):
        await until(lambda: len(asked(tmp_path)) == 4)
        known = await opened.runs.get("r1")
        await opened.runs.update(replace(known.value, state=RunState.CANCELLING), known.revision)
        await opened.runs.set_control("r1", "cancel")
        await until(lambda: [deed[1] for deed in diary(tmp_path)].count("forget") == 4)


async def test_a_model_that_cannot_be_opened_ends_the_run_with_its_sentence(
    opened: Connections, tmp_path: Path, model: ModelSpec
) -> None:
    await plan_run(opened, "r1", spec_of(tmp_path, replace(model, args={"fail": "raise"}), 5))
    async with running(opened):
        async with asyncio.timeout(30):
            while not (run := (await opened.runs.get("r1")).value).error:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert "RuntimeError: the weights are of no use" in run.error


async def test_the_engine_of_a_run_that_is_over_gives_its_memory_to_that_of_the_next(
    opened: Connections, tmp_path: Path, model: ModelSpec
) -> None:
    async with running(opened):
        await plan_run(opened, "r1", spec_of(tmp_path, model, 5))
        await until_scored(opened, 1)
        await opened.runs.withdraw_pools("r1")
        await plan_run(opened, "r2", spec_of(tmp_path, replace(model, args={**model.args, "dtype": "float16"}), 5))
        await until_scored(opened, 2)
    first, second = dict.fromkeys(deed[0] for deed in diary(tmp_path))
    deeds = [(deed[0], deed[1]) for deed in diary(tmp_path)]
    assert deeds.index((first, "close")) < deeds.index((second, "ask"))
