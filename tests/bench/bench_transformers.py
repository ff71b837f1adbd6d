"""The engine `transformers` against a bare loop over the same batches: tokens per second of the same requests.

    python -m tests.bench.bench_transformers [--requests 96] [--rows 16] [--tokens 32] [--rounds 3] [--hidden 256]

All hold the same random model, use one thread each and take turns, so that what else the machine does falls on all; the
figures are medians of the rounds. `bare` is the least that a batch needs: left-padded ids, the library's cache, argmax,
nothing else. `generate` is the library's own. `engine` is ours in this process, `child` the same behind its endpoint
(frames, a process of its own), and `platform` the whole of `evalmesh eval`, from the first question to the last answer.
Log-likelihoods: `bare` feeds each pair whole, as lm-eval does.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tests.bench.measure import machine, table
from tests.kit.own_engine import ask, judged, plain, transformers_engine
from tests.kit.tiny_model import random_model

from evalmesh.adapters.engines.engine import Engine
from evalmesh.adapters.engines.house import House, HouseRules
from evalmesh.domain.digest import pool_id
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool

_ALL = {"ignore_eos": True}


class Bench:
    """The model, and what it is asked."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - seconds

        self.folder = folder
        self.rows, self.tokens = asked.rows, asked.tokens
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        rng = random.Random(4)
        self.prompts = [f"what is the number {at} of the river? " * rng.randint(1, 6) for at in range(asked.requests)]

    def batches(self) -> list[list[list[int]]]:
        ids = sorted((self.tokenizer.encode(prompt) for prompt in self.prompts), key=len, reverse=True)
        return [ids[start : start + self.rows] for start in range(0, len(ids), self.rows)]

    def padded(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])

    def bare(self) -> None:
        for rows in self.batches():
            ids, mask = self.padded(rows)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            out = self.model(ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
            for _ in range(self.tokens - 1):
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
                positions = positions[:, -1:] + 1
                out = self.model(
                    out.logits[:, -1:].argmax(-1),
                    attention_mask=mask,
                    position_ids=positions,
                    cache=out.cache,
                    use_cache=True,
                )

    def generate(self) -> None:
        for rows in self.batches():
            ids, mask = self.padded(rows)
            exact = {"max_new_tokens": self.tokens, "min_new_tokens": self.tokens}
            self.model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=0, **exact)

    async def engine(self, engine: Engine) -> None:
        found = await ask(engine, [plain(prompt) for prompt in self.prompts], **self._config())
        assert sum(one.usage.output_tokens for one in found) == self.tokens * len(self.prompts)

    async def child(self, endpoint: Any) -> None:
        config = GenerationConfig(**self._config())
        found = await asyncio.gather(*(endpoint.generate(plain(prompt), config) for prompt in self.prompts))
        assert sum(one.usage.output_tokens for one in found) == self.tokens * len(self.prompts)

    def _config(self) -> dict[str, Any]:
        return {"max_tokens": self.tokens, "temperature": 0.0, "extra_body": _ALL}

    def platform(self, folder: Path) -> float:
        """Seconds from the first question to the last answer."""
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps({"query": one, "response": "x"}) + "\n" for one in self.prompts))
        config = {"max_tokens": self.tokens, "temperature": 0.0, "extra_body": _ALL}
        command = [sys.executable, "-m", "evalmesh.cli", "eval", "--model", str(self.folder), "--no-timestamp"]
        command += ["--datasets", f"rows=general_qa:{rows}", "--request-kind", "completion"]
        command += ["--generation-config", json.dumps(config), "--model-args", f"batch_size={self.rows}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        found = pq.read_table(folder / "outputs" / "results" / "rows.parquet").to_pydict()
        assert sum(found["output_tokens"]) == self.tokens * len(self.prompts)
        ends = [start + took for start, took in zip(found["start_time"], found["latency_s"], strict=True)]
        return max(ends) - min(found["start_time"])

    # Log-likelihoods

    def pairs(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(prompt, (" a river", " the house of the letter", " 12", " the")) for prompt in self.prompts]

    def bare_judging(self) -> None:
        encode = self.tokenizer.encode
        fed = [encode(prompt + one)[:-1] for prompt, others in self.pairs() for one in others]
        fed.sort(key=len, reverse=True)
        for start in range(0, len(fed), self.rows):
            ids, mask = self.padded(fed[start : start + self.rows])
            self.model(ids, attention_mask=mask, use_cache=False).logits.log_softmax(-1)

    async def judging(self, engine: Engine) -> None:
        await ask(engine, [judged(prompt, *others) for prompt, others in self.pairs()])


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        work()
    return time.perf_counter() - began


async def waited(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def loaded(endpoint: Any) -> None:
    while True:
        try:
            await endpoint.check()
        except Unavailable as unavailable:
            if unavailable.details.get("loading") != "true":
                raise
        else:
            return


async def main(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        layers = {"hidden": asked.hidden, "layers": 4, "heads": 8, "kv_heads": 8, "context": 4096}
        bench = Bench(random_model(Path(place) / "model", **layers), asked)
        rounds: list[dict[str, float]] = []
        house = House(HouseRules(logs=Path(place)))
        spec = ModelSpec(str(bench.folder), "transformers", args={"batch_size": asked.rows}, concurrency=512)
        endpoint = house.open(Pool(pool_id(spec), spec))
        await loaded(endpoint)
        async with transformers_engine(bench.folder, concurrency=512, batch_size=asked.rows) as engine:
            for number in range(asked.rounds + 1):
                found = {
                    "bare": timed(bench.bare),
                    "generate": timed(bench.generate),
                    "engine": await waited(bench.engine(engine)),
                    "child": await waited(bench.child(endpoint)),
                    "judge bare": timed(bench.bare_judging),
                    "judge engine": await waited(bench.judging(engine)),
                }
                if not asked.no_platform:
                    folder = Path(place) / f"run{number}"
                    folder.mkdir()
                    found["platform"] = await asyncio.to_thread(bench.platform, folder)
                rounds.append(found)
        await endpoint.close()
        await house.close()
    show(rounds[1:], asked)


def show(rounds: list[dict[str, float]], asked: argparse.Namespace) -> None:
    rows = []
    for name in rounds[0]:
        base = "judge bare" if name.startswith("judge") else "bare"
        ratio = statistics.median(one[base] / one[name] for one in rounds)
        rate = asked.requests * asked.tokens / statistics.median(one[name] for one in rounds)
        rows.append([name, float(rate) if base == "bare" else "", ratio])
    title = (
        f"{asked.requests} requests, {asked.tokens} tokens each, batches of {asked.rows}, hidden size {asked.hidden}"
    )
    table(title, ["", "tokens/s", "times the bare loop"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--no-platform", action="store_true")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the children; two threads on a busy machine wait for each other
    torch.set_num_threads(1)
    print(json.dumps(machine()))
    asyncio.run(main(parser.parse_args()))
