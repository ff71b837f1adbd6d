"""The engine `vllm` against the bare vLLM that is fed all requests at once: tokens per second of the same requests.

    python -m tests.bench.bench_vllm [--requests 400] [--tokens 64] [--rounds 5]

Both hold the same tiny model and take turns, so that what else the machine does falls on both; the figures are the
medians of the rounds' ratios, of tokens per second and, where other work shares the processor, of tokens per second of
processor time. The bare one gets token ids and gives its outputs once; ours gets conversations, renders them, writes
frames, and knows when each answer began.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from tests.bench.measure import cpu_s
from tests.kit.tiny_model import random_model

from evalmesh.adapters.engines.endpoint import EngineEndpoint
from evalmesh.adapters.engines.house import House, HouseRules
from evalmesh.adapters.engines.vllm.arguments import prepare_environment
from evalmesh.domain.digest import pool_id
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool

_CACHE_BYTES = 1 << 29


def questions(number: int) -> list[str]:
    return [f"what is the number {at} of the river? " * (1 + at % 7) for at in range(number)]


async def ours(endpoint: EngineEndpoint, asked: list[str], tokens: int) -> int:
    """Output tokens."""
    config = GenerationConfig(max_tokens=tokens, temperature=0.0, extra_body={"ignore_eos": True})
    requests = [Request(f"s{at}", 0, "chat", "d", messages=(Message("user", text),)) for at, text in enumerate(asked)]
    answers = await asyncio.gather(*(endpoint.generate(one, config) for one in requests))
    assert not any(answer.error for answer in answers)
    return sum(answer.usage.output_tokens for answer in answers)


async def bare(llm: Any, prompts: list[list[int]], tokens: int, turn: int) -> int:
    from vllm import SamplingParams, TokensPrompt  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    params = SamplingParams(
        max_tokens=tokens, temperature=0.0, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
    )

    async def one(at: int, prompt: list[int]) -> int:
        async for output in llm.generate(TokensPrompt(prompt_token_ids=prompt), params, f"{turn}-{at}"):
            last = output
        return len(last.outputs[0].token_ids)

    return sum(await asyncio.gather(*(one(at, prompt) for at, prompt in enumerate(prompts))))


async def opened(house: House, folder: Path, requests: int, args: dict[str, Any]) -> EngineEndpoint:
    model = ModelSpec(str(folder), engine="vllm", args=args, concurrency=requests)
    endpoint = house.open(Pool(pool_id(model), model))
    while True:
        try:
            await endpoint.check()
        except Unavailable as unavailable:
            if unavailable.details.get("loading") != "true":
                raise
        else:
            return endpoint


async def _rates(work: Awaitable[int]) -> tuple[float, float]:
    """Tokens per second, and per second of processor time of all processes; the one at rest takes next to none."""
    began, cpu = time.perf_counter(), cpu_s(os.getpid())
    tokens = await work
    return tokens / (time.perf_counter() - began), tokens / (cpu_s(os.getpid()) - cpu)


async def measure(folder: Path, requests: int, tokens: int, rounds: int) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    args = {"enforce_eager": True, "kv_cache_memory_bytes": _CACHE_BYTES, "enable_prefix_caching": False}
    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(str(folder), dtype="float32", disable_log_stats=True, **args))
    house = House(HouseRules(logs=folder.parent))
    endpoint = await opened(house, folder, requests, args)
    asked = questions(requests)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": one}], add_generation_prompt=True, tokenize=False)
        for one in asked
    ]
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    ratios, of_cpu = [], []
    for turn in range(rounds + 1):
        theirs, their_cpu = await _rates(bare(llm, prompts, tokens, turn))
        own, own_cpu = await _rates(ours(endpoint, asked, tokens))
        if turn:  # the first one warms both up
            ratios.append(own / theirs)
            of_cpu.append(own_cpu / their_cpu)
            said = f"bare {theirs:,.0f} tokens/s, ours {own:,.0f} tokens/s"
            print(f"round {turn}: {said}; ratio {ratios[-1]:.3f}, of processor {of_cpu[-1]:.3f}", flush=True)
    clock, processor = statistics.median(ratios), statistics.median(of_cpu)
    print(f"ours / bare: {clock:.3f} by the clock, {processor:.3f} by processor time")
    await endpoint.close()
    await house.close()
    llm.shutdown(timeout=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    asked = parser.parse_args()
    prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        shape = {"hidden": asked.hidden, "layers": asked.layers, "heads": asked.hidden // 64}
        model = random_model(Path(folder) / "model", **shape, kv_heads=2)
        asyncio.run(measure(model, asked.requests, asked.tokens, asked.rounds))


if __name__ == "__main__":
    main()
