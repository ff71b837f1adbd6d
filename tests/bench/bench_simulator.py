"""How many requests per second the simulator serves on one core, and what one costs it.

Run: python tests/bench/bench_simulator.py [--requests 20000] [--connections 16]
The client is a second process: raw keep-alive connections, bodies made beforehand, no parsing but the framing.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import time
from urllib.parse import urlsplit

import uvloop

from evalmesh.domain.sample import Sample
from evalmesh.simulator.server import Simulator
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.skill import KnownSample


def samples(count):
    words = ("apples", "pears", "nails", "boards", "stamps", "shells", "ribbons", "candles", "marbles", "bricks")
    for i in range(count):
        text = f"A shop sells {i + 3} {words[i % 10]} a day and gets {i % 17} more each night. How many after 4 days?"
        yield KnownSample("made_up", Sample(f"main/{i}", i, "main", text, (str(i * 4),)))


def requests(count, host, *, stream):
    shots = "".join(f"\n\nQuestion: example {i}, with some more text to read\nANSWER: {i}" for i in range(4))
    for known in samples(count):
        body = {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be exact."},
                {"role": "user", "content": f"Solve it.{shots}\n\n{known.sample.input}\n\nLast line: ANSWER: N"},
            ],
            "stream": stream,
            "max_tokens": 4096,
        }
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n\r\n"
        yield head.encode() + data


async def connection(host, port, todo):
    reader, writer = await asyncio.open_connection(host, port)
    for data in todo:
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        if b"Content-Length" in head:
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        else:
            await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()


def client(url, count, connections, stream, queues):
    ready, out = queues

    async def ask():
        parts = urlsplit(url)
        todo = list(requests(count, parts.netloc, stream=stream))
        ready.put(None)
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for i in range(connections):
                group.create_task(connection(parts.hostname, parts.port, todo[i::connections]))
        out.put(time.perf_counter() - start)

    uvloop.run(ask())


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(count, connections, *, stream, n_samples):
    simulator = Simulator(SimulatorSettings(), samples(n_samples))
    url = await simulator.start()
    context = multiprocessing.get_context("spawn")
    out, ready = context.Queue(), context.Queue()
    process = context.Process(target=client, args=(url, count, connections, stream, (ready, out)))
    process.start()
    # The child says when its bodies are ready, so that its start is not in the server's time.
    await asyncio.to_thread(ready.get, timeout=30)
    before = cpu_s()
    wall = await asyncio.to_thread(out.get, timeout=300)
    used = cpu_s() - before
    process.join()
    stats = simulator.stats
    assert stats.answered == count
    assert stats.unknown == 0
    await simulator.stop()
    kind = "streamed" if stream else "whole"
    tokens = stats.completion_tokens / count
    print(
        f"{kind:9} {count:6} requests, {n_samples} samples known, {connections} connections: "
        f"{count / wall:8.0f} req/s wall, {1e3 * used / count:.3f} ms CPU/request "
        f"({count / used:.0f} req/s per core), {tokens:.0f} tokens each"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=14_000)
    parser.add_argument("--connections", type=int, default=16)
    ns = parser.parse_args()
    for stream in (False, True):
        uvloop.run(measure(ns.requests, ns.connections, stream=stream, n_samples=14_000))


if __name__ == "__main__":
    main()
