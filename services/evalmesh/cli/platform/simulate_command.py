"""`evalmesh simulate`: the simulator's own command line, under this roof."""

import argparse

from evalmesh.cli.addresses import check_port
from evalmesh.simulator import cli


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    check_port(args.port, "--port")
    return cli.run(args)
