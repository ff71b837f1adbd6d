"""Endpoints over real engine processes: deaths, hangs, refusals, and how many copies there are."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kit.echo_engine import ENGINES
from tests.kit.hub import running

from evalmesh.adapters.engines.endpoint import EngineEndpoint
from evalmesh.adapters.engines.house import House, HouseRules
from evalmesh.adapters.roots import Roots
from evalmesh.domain.completion import Completion
from evalmesh.domain.digest import pool_id
from evalmesh.domain.errors import (
    LOADING,
    EvalmeshError,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
)
from evalmesh.domain.request import GenerationConfig, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.ports.endpoint import EndpointGone


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return ModelSpec(str(folder), engine="transformers", args={"diary": str(tmp_path / "diary")}, try_timeout_s=60.0)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(HouseRules(logs=tmp_path / "logs", linger_s=60), engines=ENGINES)
    yield house
    await house.close()


def opened(house: House, model: ModelSpec) -> EngineEndpoint:
    return house.open(Pool(pool_id(model), model))


async def ask(endpoint: EngineEndpoint, prompt: str, name: str = "s") -> Completion:
    return await endpoint.generate(Request(name, 0, "completion", "d", prompt=prompt), GenerationConfig())


async def ask_all(endpoint: EngineEndpoint, prompts: Sequence[str]) -> list[Completion]:
    return await asyncio.gather(*(ask(endpoint, prompt, f"s{at}") for at, prompt in enumerate(prompts)))


def diary(tmp_path: Path) -> list[list[str]]:
    """Process, its GPUs, and what it was asked."""
    return [line.split() for line in (tmp_path / "diary").read_text().splitlines()]


async def test_a_model_is_loaded_once_for_all_who_ask_it(house: House, model: ModelSpec, tmp_path: Path) -> None:
    first, second = opened(house, model), opened(house, replace(model, display_name="another pool"))
    assert await first.check("completion") == []
    assert first.capabilities.max_context_tokens == 4096
    assert len(first.capabilities.weights) == 64
    assert [answer.text for answer in await ask_all(first, ["a", "b"])] == ["a", "b"]
    await first.close()
    assert (await ask(second, "c")).text == "c"
    assert len({process for process, *_ in diary(tmp_path)}) == 1


async def test_a_model_of_a_hub_is_brought_before_its_process_starts_which_asks_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"weights again"}
    async with running() as hub:
        hub.add("org/model", {**files, "onnx/model.onnx": b"not for us"})
        for name, value in {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        house = House(engines=ENGINES)
        wanted = ModelSpec("org/model", engine="transformers", args={"diary": str(tmp_path / "diary")})
        endpoint = opened(house, wanted)
        assert await endpoint.check("completion") == []
        assert (await ask(endpoint, "a")).text == "a"
        (snapshot,) = (tmp_path / "cache").glob("**/snapshots/*")
        assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "model.safetensors"]
        with pytest.raises(NotFound, match="org/none"):
            await opened(house, replace(wanted, name="org/none")).check("completion")
        await house.close()


async def test_a_death_costs_a_try_of_what_was_in_flight(house: House, model: ModelSpec, tmp_path: Path) -> None:
    model = replace(model, args={**model.args, "died": str(tmp_path / "died"), "gate": str(tmp_path / "died")})
    endpoint = opened(house, model)
    assert (await ask(endpoint, "before")).tries == 1
    answers = await ask_all(endpoint, ["wait one", "wait two", "die-once three"])
    assert [(answer.text, answer.tries) for answer in answers] == [
        ("wait one", 2),
        ("wait two", 2),
        ("die-once three", 2),
    ]
    assert (await ask(endpoint, "after")).tries == 1


async def test_a_request_that_ends_the_engine_alone_is_an_error_and_its_neighbours_are_answered(
    house: House, model: ModelSpec
) -> None:
    endpoint = opened(house, model)
    prompts = [f"word {number}" for number in range(20)]
    prompts[7] = "die"
    answers = await ask_all(endpoint, prompts)
    bad = answers.pop(7)
    assert [answer.error for answer in answers] == [None] * 19
    assert bad.error is not None
    assert bad.error.error_class == "server"
    assert bad.error.message.startswith("This request alone ended the engine twice. The engine ended with exit code 9.")
    assert bad.tries >= 2


async def test_an_engine_killed_from_outside_is_started_again(house: House, model: ModelSpec, tmp_path: Path) -> None:
    endpoint = opened(house, replace(model, args={**model.args, "gate": str(tmp_path / "gate")}))
    waiting = asyncio.create_task(ask(endpoint, "wait"))
    await _until((tmp_path / "diary").exists)
    os.kill(int(diary(tmp_path)[0][0]), signal.SIGKILL)
    await _until(lambda: len({process for process, *_ in diary(tmp_path)}) == 2)
    (tmp_path / "gate").touch()
    assert (await waiting).tries == 2


async def test_an_engine_that_hangs_is_ended_and_what_it_had_is_asked_again(
    house: House, model: ModelSpec, tmp_path: Path
) -> None:
    endpoint = opened(house, replace(model, try_timeout_s=1.0))
    answer, bad = await ask_all(endpoint, ["fine", "stuck"])
    assert answer.text == "fine"
    assert bad.error is not None
    assert "did nothing for 1 s with requests in hand" in bad.error.message


async def test_an_engine_that_ends_whenever_it_is_started_is_given_up(
    house: House, model: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = opened(house, replace(model, args={**model.args, "fail": "soon"}))
    await ask(endpoint, "anything")
    await _until(lambda: "given up" in caplog.text)
    with pytest.raises(EndpointGone, match="ended 10 times in a row without one answer"):
        await ask(endpoint, "anything")
    endpoint.renew("the next attempt of the run")
    assert isinstance(await ask(endpoint, "anything"), Completion)


async def test_what_nobody_waits_for_leaves_the_engine(house: House, model: ModelSpec, tmp_path: Path) -> None:
    endpoint = opened(house, model)
    hanging = asyncio.create_task(ask(endpoint, "hang", "h"))
    await _until((tmp_path / "diary").exists)
    assert endpoint.load.in_flight == 1
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    assert (await ask(endpoint, "next")).text == "next"
    assert [line[2:] for line in diary(tmp_path)] == [["ask", "h#0"], ["forget", "h#0"], ["ask", "s#0"]]
    assert endpoint.load.in_flight == 0


async def test_questions_and_answers_of_megabytes_come_through_side_by_side(house: House, model: ModelSpec) -> None:
    endpoint = opened(house, model)
    long = ["x" * 3_000_000] * 12
    answers = await ask_all(endpoint, [*long, *["large 3000000"] * 12, "short"])
    assert [answer.text for answer in answers[:12]] == long
    assert {len(answer.text) for answer in answers[12:24]} == {3_000_000}
    assert answers[24].text == "short"


async def test_no_more_than_the_concurrency_are_in_the_engine(house: House, model: ModelSpec, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    endpoint = opened(house, replace(model, concurrency=3, args={**model.args, "gate": str(gate)}))
    all_of_them = asyncio.create_task(ask_all(endpoint, ["wait"] * 8))
    await _until(lambda: (tmp_path / "diary").exists() and len(diary(tmp_path)) == 3)
    assert endpoint.load.limit == 3
    assert (await asyncio.wait_for(_quiet(tmp_path), 5)) == 3
    gate.touch()
    assert [answer.text for answer in await all_of_them] == ["wait"] * 8


async def _quiet(tmp_path: Path) -> int:
    before = -1
    while before != (before := len(diary(tmp_path))):  # noqa: ASYNC110 - a file tells no event
        await asyncio.sleep(0.2)
    return before


async def test_two_copies_share_the_requests_and_have_devices_of_their_own(
    house: House, model: ModelSpec, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    args = {**model.args, "gate": str(gate), "devices": [4, "GPU-abc"]}
    endpoint = opened(house, replace(model, concurrency=2, args=args))
    all_of_them = asyncio.create_task(ask_all(endpoint, ["wait"] * 4))
    await _until(lambda: (tmp_path / "diary").exists() and len(diary(tmp_path)) == 4)
    assert endpoint.load.limit == 4
    gate.touch()
    await all_of_them
    assert sorted(devices for _, devices, *_ in diary(tmp_path)) == ["4", "4", "GPU-abc", "GPU-abc"]
    assert len({process for process, *_ in diary(tmp_path)}) == 2


async def test_a_note_is_among_the_troubles_of_the_pool(house: House, model: ModelSpec) -> None:
    endpoint = opened(house, model)
    await ask(endpoint, "note The batch of 64 did not fit; 32 are tried.")
    assert endpoint.trouble == "The batch of 64 did not fit; 32 are tried."


@pytest.mark.parametrize("fail", ["", "raise"])
async def test_who_asks_while_a_model_is_loaded_hears_so_and_then_what_came_of_it(
    house: House, model: ModelSpec, monkeypatch: pytest.MonkeyPatch, fail: str
) -> None:
    monkeypatch.setattr("evalmesh.adapters.engines.endpoint._CHECK_S", 0.1)
    model = replace(model, args={"load_s": 1, "fail": fail})
    said = [await _checked(house, model)]
    while said[-1] == said[0]:
        said.append(await _checked(house, model))
    assert said[0] == f"loading: The model {model.name} is being loaded."
    assert ("the weights are of no use" in said[-1]) if fail else (said[-1] == "")


async def _checked(house: House, model: ModelSpec) -> str:
    """What the check of a new endpoint raises."""
    endpoint = opened(house, model)
    try:
        await endpoint.check("completion")
    except EvalmeshError as error:
        return f"{'loading: ' * (LOADING in error.details)}{error.message}"
    else:
        return ""
    finally:
        await endpoint.close()


async def test_a_process_that_is_killed_while_it_loads_is_started_again(house: House, model: ModelSpec) -> None:
    endpoint = opened(house, replace(model, args={**model.args, "fail": "killed-once"}))
    assert (await ask(endpoint, "a")).text == "a"


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        ({"fail": "raise"}, "The model could not be loaded: RuntimeError: the weights are of no use"),
        ({"fail": "die"}, "The engine ended with exit code 11 while it loaded the model"),
        ({"fail": "die"}, "Segmentation fault, or the like."),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_one_sentence(
    house: House, model: ModelSpec, args: dict[str, str], wrong: str
) -> None:
    endpoint = opened(house, replace(model, args=args))
    with pytest.raises((InvalidInput, FailedPrecondition)) as caught:
        await endpoint.check()
    assert wrong in caught.value.message
    with pytest.raises(EndpointGone):
        await ask(endpoint, "anything")


@pytest.mark.parametrize(
    ("name", "args", "wrong"),
    [
        (
            "",
            {"precison": "float16"},
            "model.args has 'precison', which the engine transformers does not know; did you mean 'precision'?",
        ),
        ("", {"dtype": "int3"}, "model.args.dtype is 'int3'; give one of auto, "),
        ("", {"precision": "torch.float16", "dtype": "bfloat16"}, "model.args says dtype twice, as 'dtype' too"),
        ("", {"data_parallel": 0}, "model.args.data_parallel is 0; ask for at least 1 copy."),
        ("/nowhere/at-all", {}, "There is no folder '/nowhere/at-all' here"),
        ("./model", {}, "There is no folder './model' here"),
        ("{}/..", {}, "has no config.json, but its folders model have one; name one of these."),
        ("{}/config.json", {}, "is a file; name the folder"),
    ],
)
async def test_what_cannot_be_opened_is_said_before_a_process_is_started(
    house: House, model: ModelSpec, name: str, args: dict[str, object], wrong: str
) -> None:
    with pytest.raises(EvalmeshError) as caught:
        opened(house, replace(model, name=name.format(model.name) or model.name, args=args))
    assert wrong in caught.value.message


async def test_a_house_has_rules(model: ModelSpec, tmp_path: Path) -> None:
    house = House(HouseRules(Roots([str(tmp_path / "elsewhere")], "THE_ROOTS"), remote_code=False), engines=ENGINES)
    with pytest.raises(PermissionDenied, match="THE_ROOTS"):
        opened(house, model)
    house = House(HouseRules(Roots([model.name], "THE_ROOTS")), engines=ENGINES)
    with pytest.raises(PermissionDenied, match=r"model.args.chat_template.*THE_ROOTS"):
        opened(house, replace(model, args={"chat_template": "/etc/hostname"}))
    house = House(HouseRules(remote_code=False), engines=ENGINES)
    with pytest.raises(PermissionDenied, match="trust_remote_code"):
        opened(house, replace(model, args={"trust_remote_code": "true"}))


async def test_a_run_is_not_answered_by_other_weights(house: House, model: ModelSpec) -> None:
    first = opened(house, model)
    await first.check("completion")
    model = replace(model, weights=first.capabilities.weights)
    again = opened(house, model)
    await again.check("completion")
    await first.close()
    await again.close()
    await house.close()
    (Path(model.name) / "model.safetensors").write_bytes(b"others!")
    endpoint = opened(house, model)
    with pytest.raises(FailedPrecondition, match="not those that the run was submitted with"):
        await endpoint.check("completion")
    with pytest.raises(EndpointGone, match="not those that the run was submitted with"):
        await ask(endpoint, "anything")


async def test_an_engine_that_nobody_uses_makes_room(house: House, model: ModelSpec, tmp_path: Path) -> None:
    first = opened(house, model)
    await ask(first, "a")
    await first.close()
    second = opened(house, replace(model, args={**model.args, "dtype": "float16"}))
    await ask(second, "b")
    assert [line[2] for line in diary(tmp_path)] == ["ask", "close", "ask"]


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - files and other processes tell no event
        await asyncio.sleep(0.01)
