"""`python -m evalmesh.load_generator.engine --feed-fd N`: sends load and keeps time, in a process of its own."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable

from evalmesh.domain.load_test import LoadTarget
from evalmesh.load_generator.engine.process import Engine
from evalmesh.ports.load_http import Exchange, LoadTransport


def make_transport(target: LoadTarget, headers: dict[str, str], ended: Callable[[Exchange], None]) -> LoadTransport:
    """The transport a target asks for; `auto` is the fast one unless the environment names a proxy for the address."""
    if target.transport == "compatible" or (target.transport == "auto" and _has_proxy(target.url)):
        from evalmesh.adapters.load_http.compatible import CompatibleTransport  # noqa: PLC0415 - slow to import

        return CompatibleTransport(target, headers, ended)
    from evalmesh.adapters.load_http.fast import FastTransport  # noqa: PLC0415 - not where the other one is used

    return FastTransport(target, headers, ended)


def _has_proxy(url: str) -> bool:
    """By the variables that curl and Python's own client obey."""
    if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
        return False
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import, and rarely needed

    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)


def main(arguments: list[str]) -> int:
    """Exit status: 0 when the input ended, 2 for wrong arguments."""
    if len(arguments) != 2 or arguments[0] != "--feed-fd" or not arguments[1].isdigit():
        sys.stderr.write("usage: python -m evalmesh.load_generator.engine --feed-fd N\n")
        return 2
    feed = socket.socket(fileno=int(arguments[1]))

    async def work() -> None:
        await Engine(feed, make_transport).run()

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(work())
    return 0


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
