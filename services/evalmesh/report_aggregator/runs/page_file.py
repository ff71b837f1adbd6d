"""The report's page: what `report.json` says, and beside it samples to look at and how lengths and times are spread.

Rows stream from each benchmark's results into the page; memory is that of a batch of them.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.pages.runs.page import page_parts
from evalmesh.pages.runs.samples import COLUMNS, pack
from evalmesh.ports.object_store import ObjectStore
from evalmesh.results.local_files import fetch, pieces
from evalmesh.results.overview import fair_shares, first_of_each_subset, histogram
from evalmesh.results.query import GRADE, ResultsFile
from evalmesh.results.table import SCORE_PREFIX

_LOG = logging.getLogger(__name__)
MOST_ROWS = 20_000
MOST_BYTES = 16 << 20
"""Of samples, in a page."""
_ROWS_AT_ONCE = 128


async def write_page(report: Mapping[str, Any], store: ObjectStore) -> None:
    """Writes `report.html` of a run whose results are written."""
    run = report["run"]["id"]
    rows = {one["name"]: one["n_samples"] * one["repeats"] for one in report["benchmarks"]}
    shares = fair_shares(rows, MOST_ROWS)
    with TemporaryDirectory(prefix="evalmesh-") as scratch:
        results, samples, page = (Path(scratch) / name for name in ("results.parquet", "samples.html", "report.html"))
        shown: dict[str, dict[str, Any]] = {}
        with samples.open("w", encoding="ascii") as out:
            for number, (name, share) in enumerate(shares.items()):
                try:
                    await fetch(store, layout.results_key(run, name), results)
                except NotFound:
                    continue
                room = MOST_BYTES * share // max(sum(shares.values()), 1)
                one = await asyncio.to_thread(_embed_or_not, results, out, number, (share, room))
                if one is not None:
                    shown[name] = one
        await asyncio.to_thread(_assemble, report, shown, samples, page)
        await store.put_stream(layout.report_html_key(run), pieces(page))


def _embed_or_not(path: Path, out: IO[str], number: int, most: tuple[int, int]) -> dict[str, Any] | None:
    """`_embed`, or `None`: a report must not fail for the sake of what stands beside its numbers."""
    before = out.tell()
    try:
        return _embed(path, out, number, most)
    except Exception:  # noqa: BLE001  (see above)
        _LOG.exception("the page of the report goes without samples of one benchmark")
        out.seek(before)
        out.truncate()
        return None


def _embed(path: Path, out: IO[str], number: int, most: tuple[int, int]) -> dict[str, Any]:
    """Writes rows of one benchmark for the page, and returns what the page says of them. `most`: rows and bytes."""
    share, room = most
    with ResultsFile(path) as results:
        if results.n_bytes > room:
            # Packed for the page they are about as large as in the file.
            share = min(share, results.n_rows * room // results.n_bytes)
        places = first_of_each_subset(results, share)
        scores = [name for name in results.columns if name.startswith(SCORE_PREFIX)]
        wanted = [name for name in (*COLUMNS, *scores) if name in results.columns or name == GRADE]
        shown = 0
        for columns in results.extract(places, wanted, _ROWS_AT_ONCE):
            room -= pack(columns, scores, number, out)
            shown += len(columns["sample_id"])
            if room <= 0:
                break
        tokens = histogram(results, "output_tokens")
        return {
            "shown": shown,
            "rows": results.n_rows,
            "tokens": tokens,
            "characters": None if tokens else histogram(results, "completion"),
            "latency_s": histogram(results, "latency_s"),
        }


def _assemble(report: Mapping[str, Any], shown: Mapping[str, Mapping[str, Any]], samples: Path, page: Path) -> None:
    head, tail = page_parts(report, shown)
    with page.open("w", encoding="utf-8") as out, samples.open(encoding="ascii") as packed:
        out.write(head)
        while piece := packed.read(1 << 20):
            out.write(piece)
        out.write(tail)
