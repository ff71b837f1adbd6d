"""What becomes of requests when vLLM's processes die, and how a model is refused that cannot be loaded."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.kit.tiny_model import random_model
from tests.vllm.conftest import CONTEXT, opened

from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def ask_all(endpoint, number: int, max_tokens: int = 24) -> list[Completion]:
    config = GenerationConfig(max_tokens=max_tokens, temperature=0.0, extra_body={"ignore_eos": True})
    asked = [Request(f"s{at}", 0, "completion", "d", prompt=f"the number {at} is of") for at in range(number)]
    return await asyncio.gather(*(endpoint.generate(one, config) for one in asked))


def descendants(pid: int) -> list[tuple[int, str]]:
    found = [(pid, "")]
    for one, _ in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            children = (task / "children").read_text().split()
            found += [(int(child), Path(f"/proc/{child}/cmdline").read_text()) for child in children]
    return found[1:]


def engine_cores() -> list[int]:
    """vLLM's schedulers below us; it names them so."""
    return [pid for pid, words in descendants(os.getpid()) if "EngineCore" in words]


async def test_two_copies_answer_as_one_does_and_a_death_costs_a_try(house, endpoint, tiny):
    wanted = await ask_all(endpoint, 40)
    one = set(engine_cores())
    copies = await opened(house, tiny, data_parallel=2)
    try:
        cores = set(engine_cores()) - one
        assert len(cores) == 2
        assert [answer.text for answer in await ask_all(copies, 40)] == [answer.text for answer in wanted]
        asking = asyncio.create_task(ask_all(copies, 40, max_tokens=CONTEXT))
        await asyncio.wait([asking], timeout=0)
        os.kill(cores.pop(), signal.SIGKILL)
        answers = await asking
        assert [answer.error for answer in answers] == [None] * 40
        assert {answer.tries for answer in answers} == {1, 2}
    finally:
        await copies.close()


async def test_a_model_spread_over_two_processes_answers_as_in_one(house, endpoint, tiny, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # else each process has a core of its own, which few machines have
    spread = await opened(house, tiny, tensor_parallel_size=2)
    try:
        answers = await ask_all(spread, 20)
        assert [answer.text for answer in answers] == [answer.text for answer in await ask_all(endpoint, 20)]
    finally:
        await spread.close()


@pytest.mark.parametrize(
    ("args", "field", "words"),
    [
        ({"max_num_seq": 8}, "max_num_seq", "did you mean 'max_num_seqs'?"),
        ({"max_length": 4 * CONTEXT}, "", "max_model_len"),
        ({"engine_args": {"kv_cache_memory_bytes": 1000}}, "", ""),
        ({"reasoning_parser": "deepseek_r"}, "reasoning_parser", "did you mean 'deepseek_r1'?"),
    ],
)
async def test_options_that_cannot_be_are_refused_in_a_sentence(house, tiny, args, field, words):
    with pytest.raises(InvalidInput) as caught:
        await opened(house, tiny, **args)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert "root cause" not in caught.value.message
    if field:
        assert caught.value.details["field"] == f"model.args.{field}"


async def test_a_model_that_vllm_has_no_kernels_for_is_refused_with_its_reason(house, tmp_path):
    with pytest.raises(InvalidInput, match=r"vLLM loads the model and cannot run it: .*head_dim=16"):
        await opened(house, random_model(tmp_path / "small", hidden=32, heads=2, kv_heads=1))
