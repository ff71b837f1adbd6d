"""Which sources there are, and reading each of them once a second beside the load.

Each source has a task and an interval of its own, so that a slow one holds up nobody, and at most one question is under
way to each. Nothing here raises into the load: a reading that fails becomes one that says why.
"""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from evalmesh.adapters.server_metrics.nvml import NAME as NVML
from evalmesh.adapters.server_metrics.nvml import NvmlSource
from evalmesh.adapters.server_metrics.refusal import Refusal
from evalmesh.domain.errors import InvalidInput
from evalmesh.load.server.readings import Reading

AUTO = "auto"
_INTERVAL_S = 1.0
_HOST = re.compile(r"[\w.:%-]+")
_MOST_SAMPLES = 20_000
"""Kept for who asks late; older ones are dropped."""


class _Source(Protocol):
    name: str

    async def read(self) -> Reading: ...


class _Reader:
    """Reads its sources until it is cancelled."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=_MOST_SAMPLES)

    async def take(self) -> list[Reading]:
        """See the port."""
        taken = list(self._readings)
        self._readings.clear()
        return taken

    async def follow(self, source: _Source) -> None:
        """One source, asked for by name: what it does not say is said."""
        due_s = time.monotonic()
        while True:
            self._readings.append(await _read(source))
            due_s = await _next(due_s)

    async def find(self, candidates: Sequence[_Source]) -> None:
        """The first of these pages that there is; none is no failure, for nobody asked for it by name."""
        due_s = time.monotonic()
        left = list(candidates)
        while left:
            for source in tuple(left):
                try:
                    reading = await source.read()
                except Refusal as refusal:
                    if refusal.final:
                        left.remove(source)
                except Exception:  # noqa: BLE001 - whatever is there, it is no page of metrics
                    left.remove(source)
                else:
                    self._readings.append(reading)
                    await _next(due_s)
                    await self.follow(source)
            due_s = await _next(due_s)


async def _read(source: _Source) -> Reading:
    begun_s = time.monotonic()
    try:
        return await source.read()
    except Refusal as refusal:
        return Reading(source.name, "", begun_s, error=refusal.why)
    except Exception as error:  # noqa: BLE001 - whatever a page holds, the load goes on
        return Reading(source.name, "", begun_s, error=f"it cannot be read: {type(error).__name__}")


async def _next(due_s: float) -> float:
    """Sleeps until the next reading is due; intervals missed by a slow answer are left out."""
    now_s = time.monotonic()
    due_s += _INTERVAL_S * max(1, -((due_s - now_s) // _INTERVAL_S))
    await asyncio.sleep(due_s - now_s)
    return due_s


@asynccontextmanager
async def open_server_metrics(urls: Sequence[str], endpoint_url: str) -> AsyncIterator[_Reader]:
    """Reads `urls` while the context is open.

    Args:
        urls: Prometheus addresses (without a path, `/metrics` is meant), `nvml`, or `auto`: `/metrics` beside the
            endpoint, if it is there.
        endpoint_url: The address under load.

    Raises:
        InvalidInput: An address is none.
    """
    addresses = [_address(url) for url in dict.fromkeys(urls) if url not in {AUTO, NVML}]
    asked = {_without_user(urlsplit(address)).geturl() for address in addresses}
    beside = [one for one in beside_endpoint(endpoint_url) if AUTO in urls and one not in asked]
    reader = _Reader()
    nvml = NvmlSource() if NVML in urls else None
    tasks = [asyncio.create_task(reader.follow(nvml))] if nvml is not None else []
    if addresses or beside:
        tasks.append(asyncio.create_task(_read_pages(reader, addresses, beside)))
    try:
        yield reader
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if nvml is not None:
            with contextlib.suppress(Exception):
                await nvml.close()


async def _read_pages(reader: _Reader, addresses: Sequence[str], beside: Sequence[str]) -> None:
    """Until it is cancelled. The client is loaded in a thread: nothing else need wait for it."""
    prometheus = await asyncio.to_thread(import_module, "evalmesh.adapters.server_metrics.prometheus")
    async with prometheus.open_pages() as page, asyncio.TaskGroup() as group:
        for address in addresses:
            group.create_task(reader.follow(page(address)))
        if beside:
            group.create_task(reader.find([page(address) for address in beside]))


def _address(url: str) -> str:
    parsed = _parsed(url)
    if parsed is None:
        shown = url if "@" not in url else "withheld, as it may hold a password"
        raise InvalidInput(
            f"server_metrics: {shown!r} is no address; give e.g. http://127.0.0.1:8000/metrics, {NVML} or {AUTO}.",
            {"field": "server_metrics"},
        )
    return (parsed if parsed.path.strip("/") else parsed._replace(path="/metrics")).geturl()


def _parsed(url: str) -> SplitResult | None:
    try:
        parsed = urlsplit(url)
        _ = parsed.port  # a number that is none is found when it is asked for
    except ValueError:
        return None
    return parsed if parsed.scheme in {"http", "https"} and _HOST.fullmatch(parsed.hostname or "") else None


def beside_endpoint(endpoint_url: str) -> list[str]:
    """Where a server under this address would show metrics: under the path before `/v1`, then at the root."""
    parsed = _parsed(endpoint_url)
    if parsed is None:
        return []
    root = _without_user(parsed)._replace(path="", query="", fragment="")
    prefix = parsed.path.partition("/v1")[0].rstrip("/") if "/v1" in parsed.path else ""
    found = (root._replace(path=f"{prefix}/metrics"), root._replace(path="/metrics"))
    return list(dict.fromkeys(one.geturl() for one in found))


def _without_user(parsed: SplitResult) -> SplitResult:
    return parsed._replace(netloc=parsed.netloc.rpartition("@")[2])
