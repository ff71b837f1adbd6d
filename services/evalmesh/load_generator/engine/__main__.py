"""`python -m evalmesh.load_generator.engine --feed-fd N`: sends load and keeps time, in a process of its own."""

import asyncio
import socket
import sys

from evalmesh.adapters.load_http.transports import open_transport
from evalmesh.load_generator.engine.process import Engine


def main(arguments: list[str]) -> int:
    """Exit status: 0 when the input ended, 2 for wrong arguments."""
    if len(arguments) != 2 or arguments[0] != "--feed-fd" or not arguments[1].isdigit():
        sys.stderr.write("usage: python -m evalmesh.load_generator.engine --feed-fd N\n")
        return 2
    feed = socket.socket(fileno=int(arguments[1]))

    async def work() -> None:
        await Engine(feed, open_transport).run()

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
