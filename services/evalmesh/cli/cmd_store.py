"""`evalmesh store init`: brings a bucket to what the platform needs."""

import argparse

from evalmesh.adapters.s3_admin import init_bucket
from evalmesh.cli import exits


def run(args: argparse.Namespace) -> int:
    """Doing it again changes nothing."""
    report = init_bucket(args.url)
    print(report)
    return exits.OK
