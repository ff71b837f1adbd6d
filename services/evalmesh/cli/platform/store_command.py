"""`evalmesh store init|gc`: brings a bucket to what the platform needs; removes what nothing refers to."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from evalmesh.adapters.s3_admin import init_bucket
from evalmesh.cli import exits
from evalmesh.cli.amounts import bytes_text, parse_age_s
from evalmesh.cli.eval.show import make_console
from evalmesh.cli.platform.session import Place, connect, run_async
from evalmesh.cli.runs.listing import look_place
from evalmesh.cli.tables import Column, Grid
from evalmesh.domain.garbage import CollectedGroup


def run(args: argparse.Namespace) -> int:
    """One of the two actions."""
    return _init(args) if args.action == "init" else _collect(args)


def _init(args: argparse.Namespace) -> int:
    """Doing it again changes nothing."""
    report = init_bucket(args.url)
    print(f"bucket {report.bucket}: {'created' if report.created else 'was there'}")
    if report.changed:
        print(f"  set: {', '.join(report.changed)}")
    for what, why in report.skipped.items():
        print(f"  left alone: {what} ({why})")
    return exits.OK


def _collect(args: argparse.Namespace) -> int:
    min_age_s = parse_age_s(args.min_age, "--min-age")
    place = replace(look_place(args), only_looks=not args.delete)
    groups = run_async(_collected(place, min_age_s, delete=args.delete))
    if args.format == "json":
        print(json.dumps([dataclasses.asdict(group) for group in groups], indent=2))
    else:
        _show(groups, args)
    return exits.OK


async def _collected(place: Place, min_age_s: float, *, delete: bool) -> Sequence[CollectedGroup]:
    async with connect(place) as client:
        return await client.collect_garbage(min_age_s=min_age_s, validate_only=not delete)


def _show(groups: Sequence[CollectedGroup], args: argparse.Namespace) -> None:
    verb = "Removed" if args.delete else "Would go"
    grid = Grid([Column("Objects"), Column(verb), Column("Size"), Column("Stay"), Column("Their size")])
    for group in groups:
        sizes = bytes_text(group.size_bytes), bytes_text(group.kept_bytes)
        grid.add(group.kind, str(group.objects), sizes[0], str(group.kept), sizes[1])
    if groups:
        grid.print_to(make_console())
    for group in groups:
        if group.note:
            print(f"{group.kind} stay: {group.note}", file=sys.stderr)
    count, size_bytes = sum(group.objects for group in groups), sum(group.size_bytes for group in groups)
    told = f"{count} object{'' if count == 1 else 's'}, {bytes_text(size_bytes)}"
    if args.delete:
        print(f"removed {told}")
    elif count:
        print(f"{told} would go; add --delete to remove them")
    else:
        print(f"nothing to remove that was written more than {args.min_age} ago")
