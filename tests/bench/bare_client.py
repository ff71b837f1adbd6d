"""The floor: the least a Python process can do and still be a streaming client. Keep-alive connections, bodies made
beforehand, no JSON, no records, no classes of errors: it looks for the first content and for the end of the message.
With `parse` it is a whole streaming client, though one without bookkeeping: httptools for HTTP, msgspec for each event.

    python tests/bench/bare_client.py '{"url": "http://HOST:PORT/v1", "parallel": 64, "number": 2000, "tokens": 64}'

With `due_s` (a list of seconds since the start) it sends when due, on connections opened beforehand (`parallel`).
"""

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections import deque
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

LEAD_S = 0.05


class Client(asyncio.Protocol):
    def __init__(self, bench):
        self.bench = bench
        self.first_s = 0.0

    def connection_made(self, transport):
        self.transport = transport

    def send(self):
        self.first_s = 0.0
        self.sent_s = time.monotonic()
        self.transport.write(self.bench.requests.popleft())

    def data_received(self, data):
        now = time.monotonic()
        bench = self.bench
        if not self.first_s and bench.mark in data:
            self.first_s = now
            bench.ttft_s.append(now - self.sent_s)
        if data.endswith(b"0\r\n\r\n"):
            bench.e2e_s.append(now - self.sent_s)
            bench.ended(self)


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta
    finish_reason: str | None = None


class Event(msgspec.Struct):
    choices: list[Choice]
    usage: dict[str, int] | None = None


class ParsingClient(Client):
    decode = msgspec.json.Decoder(Event).decode

    def connection_made(self, transport):
        super().connection_made(transport)
        self.parser = httptools.HttpResponseParser(self)

    def send(self):
        self.rest, self.times_s, self.finish, self.usage = b"", [], None, None
        super().send()

    def data_received(self, data):
        self.now = time.monotonic()
        self.parser.feed_data(data)

    def on_body(self, data):
        *events, self.rest = (self.rest + data).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                continue
            found = self.decode(event[6:])
            if not found.choices:
                self.usage = found.usage
            elif found.choices[0].delta.content:
                self.times_s.append(self.now)
            elif found.choices[0].finish_reason:
                self.finish = found.choices[0].finish_reason

    def on_message_complete(self):
        bench = self.bench
        if self.finish is None or self.usage is None:
            raise RuntimeError("an answer is not whole")
        bench.ttft_s.append(self.times_s[0] - self.sent_s)
        bench.e2e_s.append(self.times_s[-1] - self.sent_s)
        self.parser = httptools.HttpResponseParser(self)
        bench.ended(self)


class Bench:
    def __init__(self, job):
        address = urlsplit(job["url"])
        self.host, self.port = address.hostname, address.port
        self.mark = b'"content":" '
        self.parallel = job["parallel"]
        self.client = ParsingClient if job.get("parse") else Client
        self.due_s = deque(job.get("due_s", ()))
        self.free = []
        self.requests = deque(self._bodies(job, len(self.due_s) or job["number"]))
        self.left = len(self.requests)
        self.ttft_s, self.e2e_s = [], []

    def _bodies(self, job, number):
        rng = random.Random(1)
        low, high = job.get("tokens_low") or job["tokens"], job["tokens"]
        for i in range(number):
            content = " ".join(f"word{i * 31 % 997}" for _ in range(job.get("prompt", 32)))
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": f"{i} {content}"}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": rng.randint(low, high),
            }
            data = json.dumps(body).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
            yield f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data

    def ended(self, client):
        self.left -= 1
        if not self.left:
            self.done.set_result(None)
        elif self.open_loop:
            self.free.append(client)
        elif self.requests:
            client.send()

    def send_due(self):
        now = time.monotonic() - self.start_s
        while self.due_s and self.due_s[0] <= now and self.free:
            self.due_s.popleft()
            self.free.pop().send()
        if self.due_s:
            # uvloop keeps time in whole milliseconds: the rest is spun.
            wait_s = self.due_s[0] - now - 0.001 if self.free else 0.001
            loop = asyncio.get_running_loop()
            if wait_s > 0.001:
                loop.call_later(wait_s, self.send_due)
            else:
                loop.call_soon(self.send_due)

    async def run(self):
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        self.open_loop = bool(self.due_s)
        gc.freeze()
        cpu_s, self.start_s = cpu_now(), time.monotonic()
        for _ in range(self.parallel):
            _, client = await loop.create_connection(lambda: self.client(self), self.host, self.port)
            if self.open_loop:
                self.free.append(client)
            elif self.requests:
                # At once, as a load generator does.
                client.send()
        if self.open_loop:
            cpu_s, self.start_s = cpu_now(), time.monotonic() + LEAD_S
            self.send_due()
        await self.done
        return {
            "wall_s": time.monotonic() - self.start_s,
            "loop_cpu_s": cpu_now() - cpu_s,
            "ttft_ms": percentiles(self.ttft_s),
            "e2e_ms": percentiles(self.e2e_s),
            "rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }


def cpu_now():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def percentiles(values_s):
    ordered = sorted(values_s)
    return {f"p{p}": 1e3 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 90, 99)}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(Bench(json.loads(sys.argv[1])).run())))
