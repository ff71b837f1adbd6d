"""`evalmesh store init`: brings a bucket to what the platform needs."""

import argparse

from evalmesh.adapters.s3_admin import init_bucket
from evalmesh.cli import exits


def run(args: argparse.Namespace) -> int:
    """Doing it again changes nothing."""
    report = init_bucket(args.url)
    print(f"bucket {report.bucket}: {'created' if report.created else 'was there'}")
    if report.changed:
        print(f"  set: {', '.join(report.changed)}")
    for what, why in report.skipped.items():
        print(f"  left alone: {what} ({why})")
    return exits.OK
