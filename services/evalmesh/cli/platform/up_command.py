"""`evalmesh up`: the platform stays up, and other shells and the SDK connect to it."""

import argparse
import asyncio

from evalmesh.cli import exits
from evalmesh.cli.connections import parse_connection
from evalmesh.cli.platform.session import Place, log_file, run_async, start_logging
from evalmesh.local.platform import open_platform
from evalmesh.runtime.garbage import keep_what_is_loaded


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C; that is its ordinary end."""
    try:
        run_async(_serve(Place.of(args, host="", connections=tuple(map(parse_connection, args.connection)))))
    except KeyboardInterrupt:
        print("stopped; runs that were going on can be resumed")
    return exits.OK


async def _serve(place: Place) -> None:
    settings = place.settings()
    start_logging(settings)
    async with open_platform(settings) as platform:
        keep_what_is_loaded()
        print(f"evalmesh is up at {platform.address}; Ctrl-C ends it. Logs: {log_file(settings).parent}")
        print(f"  other shells:  export EVALMESH_SERVER={platform.address}")
        print(f'  Python:        evalmesh.Client("{platform.address}")')
        print(
            f"  Shells and scripts of this user are let in; others need its token ({settings.token_file}).", flush=True
        )
        await asyncio.Event().wait()
