"""What a load test leaves in its folder beside its config and logs: figures, page, requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.domain.errors import NotFound
from evalmesh.domain.load_test import LoadTest

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # a look at a file needs no gRPC

REPORT_FILES = (LOAD_TESTS.report_file, *LOAD_TESTS.other_files)


async def write_outputs(client: "AsyncClient", test: LoadTest, folder: Path) -> dict[str, Any]:
    """Downloads the report and the requests; returns the document. Raises `NotFound`."""
    for name in REPORT_FILES:
        await client.export_load_test(test, name, folder / name)
    return LOAD_TESTS.read_report(folder / "perf.json")


async def write_missing_outputs(client: "AsyncClient", test: LoadTest, work_dir: Path) -> Path | None:
    """Outputs of a load test whose command is gone; `None` when it left no folder, or ended before a report."""
    folder = LOAD_TESTS.find_folder(test.id, work_dir)
    if folder is None:
        return None
    if not (folder / "perf.json").is_file():
        try:
            await write_outputs(client, test, folder)
        except NotFound:
            return None
    return folder


def summary_of(perf: Mapping[str, Any]) -> str:
    """Model and address of a document in words."""
    target = perf["target"]
    return f"{target['model']} at {target['url']} ({target['api']})"
