"""`evalmesh samples`: what was asked, what was answered, how it was read."""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.addresses import check_server
from evalmesh.cli.eval import samples_view as view
from evalmesh.cli.eval.samples_source import Source, local_source, pick, server_source
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.result_query import MOST_SEARCH_CHARACTERS, ResultQuery
from evalmesh.sdk import Client
from evalmesh.wire.runs.reports import check_query

_TABLE_ROWS = 20


def run(args: argparse.Namespace) -> int:
    """Reads, filters, prints."""
    if args.limit is not None and args.limit < 0:
        raise InvalidInput(f"limit: {args.limit} is negative; give 0 for all.", {"field": "limit"})
    if len(args.grep) > MOST_SEARCH_CHARACTERS:
        raise InvalidInput(f"grep: give at most {MOST_SEARCH_CHARACTERS} characters.", {"field": "grep"})
    query = check_query(
        ResultQuery(
            grades=tuple(dict.fromkeys(args.grades or ())),
            subset=args.subset,
            sample_id=args.sample or "",
            search=args.grep,
            order_by=args.order_by,
            columns=tuple(args.columns or ()),
        )
    )
    if args.server:
        check_server(args.server)
        with Client(args.server) as client:
            return _show(server_source(client, args), query, args)
    return _show(local_source(args), query, args)


def _show(source: Source, query: ResultQuery, args: argparse.Namespace) -> int:
    names = pick(source, args.benchmark, args.subset)
    most: int | None = _TABLE_ROWS if args.limit is None and args.format == "table" else (args.limit or None)
    if args.sample:
        return _whole(source, names, query, args)
    if args.format == "table" and not query.columns:
        for name in names:
            counts = source.counts(name, query)
            view.print_table(name, source.rows(name, query, most), counts, query.grades)
        return exits.OK
    rows = chain.from_iterable(source.rows(name, query, most) for name in names)
    view.WRITERS[args.format](rows if most is None else _first(rows, most), sys.stdout)
    return exits.OK


def _first(rows: Iterator[dict[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    for count, row in enumerate(rows, 1):
        yield row
        if count == most:
            return


def _whole(source: Source, names: list[str], query: ResultQuery, args: argparse.Namespace) -> int:
    found = [row for name in names for row in source.rows(name, query, args.limit or None)]
    if not found:
        example = next(source.rows(names[0], ResultQuery(columns=("sample_id",)), 1), {"sample_id": "none at all"})
        raise NotFound(
            f"There is no sample {args.sample!r} in {', '.join(names)} that fits; ids are in the first column of "
            f"`evalmesh samples`, e.g. {example['sample_id']!r}.",
            {"field": "sample"},
        )
    if args.format == "table" and not query.columns:
        for row in found:
            view.print_whole(row)
    elif args.format == "md" and not query.columns:
        sys.stdout.writelines(view.whole_markdown(row) for row in found)
    else:
        view.WRITERS[args.format](iter(found), sys.stdout)
    return exits.OK
