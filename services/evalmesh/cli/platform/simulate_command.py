"""`evalmesh simulate`: the simulator's own command line, under this roof."""

import argparse

from evalmesh.simulator import cli


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    return cli.run(args)
