"""The least an evaluation can do: load rows, ask, extract, score, log, mean. One process, one loop, no services.

It uses the same functions for rows, prompts and scores as the platform and sends the same requests, so the difference
between the two is what queues, stores, checkpoints, progress and reports cost.

    python tests/bench/minimal_client.py '{"url": "http://127.0.0.1:8801/v1", "benchmarks": [{"name": "starter_math"}]}'
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict

import aiohttp
import uvloop
from measure import cpu_s

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.query import query_for
from evalmesh.benchmarks.samples import RowSource, choose_shots, iter_samples, render
from evalmesh.domain.completion import Completion
from evalmesh.domain.run import BenchmarkSpec

SEED = 42


def load(job, benchmark, spec):
    """Samples with their prompts."""
    source = LocalDatasets()

    def rows(subset, *, few_shot):
        query = query_for(benchmark, spec, subset, dataset_dir=job.get("dataset_dir", ""), few_shot=few_shot)
        return source.rows(source.resolve(query), benchmark.dataset.columns)

    for subset in benchmark.subsets or ("default",):
        shots = choose_shots(benchmark, spec, RowSource(lambda: rows(subset, few_shot=True)), subset, SEED)  # noqa: B023
        settings = benchmark.prompt_settings(spec, shots)
        samples = iter_samples(
            benchmark,
            spec,
            RowSource(lambda: rows(subset, few_shot=False)),  # noqa: B023
            subset,
            job.get("limit"),
            SEED,
        )
        for sample in samples:
            yield render(benchmark, settings, sample)


async def evaluate(job):
    [wish] = job["benchmarks"]
    benchmark, spec = registry.get(wish["name"]), BenchmarkSpec(**wish)
    generation = benchmark.generation
    planned = list(load(job, benchmark, spec))
    todo = iter(planned)
    values = []
    url, concurrency = job["url"], job.get("concurrency", 64)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as log:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

            async def ask(one):
                body = {
                    "model": "sim",
                    "messages": [{"role": m.role, "content": m.content} for m in one.messages],
                    "max_tokens": generation.max_tokens,
                    "temperature": generation.temperature,
                }
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    answer = await response.json()
                text = answer["choices"][0]["message"]["content"]
                completion = Completion(sample_id=one.sample.id, repeat=0, digest="", text=text)
                shape = benchmark.shape
                score = shape.score_fast(one.sample, completion) or shape.score(one.sample, completion)
                value = next(iter(score.values.values()), 0.0)
                values.append(value)
                line = {"sample": asdict(one.sample), "messages": body["messages"], "answer": text, "value": value}
                log.write(json.dumps(line, default=dict) + "\n")

            async def worker():
                for one in todo:
                    await ask(one)

            await asyncio.gather(*(worker() for _ in range(concurrency)))
    return len(values), sum(values) / len(values)


async def main(job):
    cpu, wall = cpu_s(os.getpid()), time.perf_counter()
    samples, value = await evaluate(job)
    wall = time.perf_counter() - wall
    print(json.dumps({"samples": samples, "value": value, "run_s": wall, "cpu_s": cpu_s(os.getpid()) - cpu}))


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
