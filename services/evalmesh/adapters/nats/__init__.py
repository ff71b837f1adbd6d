"""NATS JetStream: the bus, its key-value buckets, request and reply.

nats-py loads aiohttp as soon as it is loaded itself, for addresses that begin with `ws:`, which takes every command a
tenth of a second. Here it is loaded for such an address alone.
"""

import importlib
import sys


def _load_without_websockets() -> None:
    if "aiohttp" in sys.modules:
        return
    sys.modules["aiohttp"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        importlib.import_module("nats.aio.transport")
    finally:
        del sys.modules["aiohttp"]


def load_websockets() -> None:
    """Makes addresses with `ws:` and `wss:` usable."""
    vars(importlib.import_module("nats.aio.transport"))["aiohttp"] = importlib.import_module("aiohttp")


_load_without_websockets()
