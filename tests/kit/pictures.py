"""A benchmark with pictures, as an installed package would bring it: rows of generated PNGs in Parquet."""

import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evalmesh.benchmarks import rows
from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.sample import Sample

NAME = "pictures"
COLOURS = ("red", "green", "blue")


def to_sample(row: Row, context: RowContext) -> Sample:
    return Sample(
        id=rows.sample_id(context),
        index=context.index,
        subset=context.subset,
        input=rows.text(row, "question"),
        target=(rows.answer_letter(row, "answer", len(COLOURS)),),
        choices=COLOURS,
        media=rows.media(row, "image", context),
    )


def provide() -> list[Benchmark]:
    return [
        Benchmark(
            name=NAME,
            version=1,
            title="Pictures",
            description="Which colour fills a picture?",
            dataset=DatasetInfo(license="yours"),
            shape=MultipleChoice(),
            to_sample=to_sample,
            modalities=frozenset({"text", "image"}),
            needs_local_path=True,
        )
    ]


def install(folder: Path) -> None:
    """Makes `folder` a place that installs the benchmark, once it is on `sys.path`."""
    info = folder / "pictures-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[evalmesh.benchmarks]\n{NAME} = {__name__}:provide\n")


def png(number: int, colour: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8 + number, 8), colour).save(sink, "PNG")
    return sink.getvalue()


def write_rows(path: Path, pictures: Iterable[tuple[str, bytes]]) -> Path:
    """One row per (colour, picture), as Hugging Face stores images."""
    found = [
        {
            "question": f"Which colour fills picture number {number}?",
            "answer": "ABC"[COLOURS.index(colour)],
            "image": {"bytes": picture, "path": None},
        }
        for number, (colour, picture) in enumerate(pictures)
    ]
    pq.write_table(pa.Table.from_pylist(found), path)
    return path
