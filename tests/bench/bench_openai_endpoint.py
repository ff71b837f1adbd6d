"""CPU per request of the OpenAI endpoint, as a ratio to a minimal aiohttp client on the same server.

    python tests/bench/bench_openai_endpoint.py [--requests 6000] [--concurrency 64] [--stream]

The server is a child process that answers every request at once with the same bytes, so CPU time of this process is
the client's alone. Rounds alternate, and the best of each is compared: the machine is rarely quiet.
"""

import argparse
import asyncio
import json
import multiprocessing
import time
from multiprocessing.connection import Connection

import aiohttp
import uvloop

from evalmesh.adapters.model_servers import DeclaredServers
from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool

ROUNDS = 5
TEXT = "Natalia sold 48 / 2 = 24 clips in May. Altogether she sold 48 + 24 = 72 clips. The answer is 72."
PROMPT = "Natalia sold clips to 48 friends in April, and half as many in May. How many altogether? " * 8
USAGE = {"prompt_tokens": 160, "completion_tokens": 30, "total_tokens": 190}


def answer(*, stream: bool) -> bytes:
    head = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{}\r\n"
    if not stream:
        body = json.dumps(
            {
                "id": "cmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
                "usage": USAGE,
            }
        ).encode()
        return head.format("application/json", f"Content-Length: {len(body)}\r\n").encode() + body
    words = [{"choices": [{"index": 0, "delta": {"content": f"{word} "}}]} for word in TEXT.split()]
    last = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": USAGE}]
    body = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in [*words, *last]) + b"data: [DONE]\n\n"
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head.format("text/event-stream", "Transfer-Encoding: chunked\r\n").encode() + chunked


class FixedAnswer(asyncio.Protocol):
    """Reads requests with a Content-Length and sends the same bytes for each."""

    reply = b""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            size = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + size:
                return
            self.buffer = self.buffer[end + 4 + size :]
            self.transport.write(self.reply)


def serve(pipe: Connection, reply: bytes) -> None:
    async def main():
        FixedAnswer.reply = reply
        server = await asyncio.get_running_loop().create_server(FixedAnswer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    uvloop.run(main())


async def measure(ask, requests: int, concurrency: int) -> tuple[float, float]:
    """(CPU ms, wall ms) per request."""
    todo = iter(range(requests))

    async def worker():
        for n in todo:
            await ask(n)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return (time.process_time() - cpu) * 1e3 / requests, (time.perf_counter() - wall) * 1e3 / requests


async def compare(port: int, options: argparse.Namespace) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    config = GenerationConfig(max_tokens=256, temperature=0.0, seed=42)
    message = (Message("user", PROMPT),)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=options.concurrency))
    model = ModelSpec("m", url=url, concurrency=options.concurrency, stream=options.stream)
    endpoint = open_openai_endpoint(Pool("p", model), DeclaredServers((), NoKeys()))

    async def minimal(n):
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 256, "seed": 42}
        async with session.post(f"{url}/chat/completions", json=body) as response:
            if options.stream:
                await response.read()
            else:
                content = await response.json()
                assert content["choices"][0]["message"]["content"] == TEXT

    async def ours(n):
        completion = await endpoint.generate(Request(f"s/{n}", 0, "chat", "d", messages=message), config)
        assert completion.text.strip() == TEXT, completion

    results = {"minimal aiohttp": [], "endpoint": []}
    for round_number in range(ROUNDS + 1):
        for name, ask in (("minimal aiohttp", minimal), ("endpoint", ours)):
            figures = await measure(ask, options.requests, options.concurrency)
            if round_number:  # The first warms up.
                results[name].append(figures)
    await endpoint.close()
    await session.close()
    best = {name: min(figures) for name, figures in results.items()}
    for name, (cpu_ms, wall_ms) in best.items():
        print(f"{name:16} {cpu_ms:.3f} ms CPU/request   {1e3 / wall_ms:7.0f} requests/s")
    print(f"ratio of CPU     {best['endpoint'][0] / best['minimal aiohttp'][0]:.2f}")


class NoKeys:
    def resolve(self, ref: str) -> str:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--stream", action="store_true", help="30 events per answer; the minimal client only reads")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, answer(stream=options.stream)), daemon=True)
    server.start()
    try:
        uvloop.run(compare(here.recv(), options))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
