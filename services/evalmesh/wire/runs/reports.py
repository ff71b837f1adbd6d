"""Reports and sample results of the public API: documents as JSON, files as pieces."""

import json
from collections.abc import Iterator
from typing import Any, cast

from evalmesh.domain.errors import InternalError, InvalidInput
from evalmesh.domain.layout import is_safe_name, report_html_key, report_json_key, results_key
from evalmesh.v1 import reports_pb2 as pb
from evalmesh.wire.names import report_name

PIECE_BYTES = 1 << 20
SCORE_STATES = ("", "scored", "unscored", "errored")


def report_to_proto(run: str, document: bytes | str) -> pb.Report:
    """The stored JSON document as it is."""
    return pb.Report(name=report_name(run), json=document.decode() if isinstance(document, bytes) else document)


def report_from_proto(report: pb.Report) -> dict[str, Any]:
    """The document."""
    return _object(report.json, report.name)


def result_from_proto(text: str) -> dict[str, Any]:
    """One sample result."""
    return _object(text, "a sample result")


def comparison_part(text: str) -> dict[str, Any]:
    """The document of a comparison, or a flip."""
    return _object(text, "a part of a comparison")


def _object(text: str, what: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise InternalError(f"The server sent {what} that is no JSON object.")
    return cast("dict[str, Any]", value)


def export_key(run: str, file: str) -> str:
    """The object behind a file of the report; raises `InvalidInput` for any other name."""
    if file == "report.json":
        return report_json_key(run)
    if file == "report.html":
        return report_html_key(run)
    benchmark = file.removeprefix("results/").removesuffix(".parquet")
    if file == f"results/{benchmark}.parquet" and is_safe_name(benchmark):
        return results_key(run, benchmark)
    raise InvalidInput(
        f"file: {file[:200]!r} is no file of a report; use `report.json`, `report.html` or "
        f"`results/{{benchmark}}.parquet`.",
        {"field": "file"},
    )


def check_score_state(state: str) -> str:
    """The filter of QueryResults; raises `InvalidInput`."""
    if state not in SCORE_STATES:
        raise InvalidInput(
            f"score_state: {state[:100]!r} is not known; use scored, unscored, errored, or leave it empty for all.",
            {"field": "score_state"},
        )
    return state


def pieces(data: bytes) -> Iterator[bytes]:
    """Cuts bytes into pieces small enough for one message."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
