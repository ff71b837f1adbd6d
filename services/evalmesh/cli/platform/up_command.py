"""`evalmesh up`: the platform stays up, and other shells and the SDK connect to it."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from evalmesh.cli import exits
from evalmesh.cli.addresses import is_loopback, seen_from_outside, split_address
from evalmesh.cli.connections import parse_connection
from evalmesh.cli.platform.session import Place, log_file, run_async, start_logging
from evalmesh.local.platform import open_platform
from evalmesh.runtime.garbage import keep_what_is_loaded

_METRICS_VARIABLE = "EVALMESH_METRICS_ADDRESS"


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C; that is its ordinary end."""
    split_address(args.address, "--address", lowest=0)
    try:
        connections = tuple(map(parse_connection, args.connection))
        run_async(_serve(Place.of(args, host="", connections=connections, metrics_address=_metrics_address())))
    except KeyboardInterrupt:
        print("stopped; runs that were going on can be resumed")
    return exits.OK


def _metrics_address() -> str:
    """Other commands show none: they are over before anybody looks, and several may run at once."""
    address = os.environ.get(_METRICS_VARIABLE, "")
    if address:
        split_address(address, _METRICS_VARIABLE, lowest=0)
    return address


def _outside(asked: str, address: str, token_file: Path) -> Iterator[str]:
    """What whoever opens a platform to other machines should know."""
    host, _ = split_address(asked, "--address", lowest=0)
    if is_loopback(host):
        return
    reached = f"{seen_from_outside(host)}:{address.rpartition(':')[2]}"
    yield f"  other machines: export EVALMESH_SERVER={reached} EVALMESH_TOKEN_FILE=TOKEN  (a copy of that file)"
    yield (
        "warning: other machines reach this port. Whoever has the token may start, cancel and delete runs, read all "
        "results,\n  have files read that you may read, and spend the keys of its connections; without it nothing is "
        "answered.\n  The token and all data travel unencrypted: use a network you trust, or an ssh tunnel "
        f"(ssh -L 9090:127.0.0.1:{address.rpartition(':')[2]} HOST).\n  Keep {token_file} to yourself."
    )


async def _serve(place: Place) -> None:
    settings = place.settings()
    start_logging(settings)
    async with open_platform(settings) as platform:
        keep_what_is_loaded()
        print(f"evalmesh is up at {platform.address}; Ctrl-C ends it. Logs: {log_file(settings).parent}")
        print(f"  other shells:  export EVALMESH_SERVER={platform.address}")
        print(f'  Python:        evalmesh.Client("{platform.address}")')
        if settings.metrics_address:
            print(f"  Prometheus:    http://{settings.metrics_address}/metrics, with the token")
        print(f"  Shells and scripts of this user are let in; others need its token ({settings.token_file}).")
        for line in _outside(place.address, platform.address, settings.token_file):
            print(line)
        sys.stdout.flush()
        await asyncio.Event().wait()
