"""Reports and sample results of the public API: documents as JSON, files as pieces."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from evalmesh.domain.errors import InternalError, InvalidInput
from evalmesh.domain.layout import is_safe_name, report_html_key, report_json_key, results_key
from evalmesh.domain.result_query import GRADES, MOST_SEARCH_CHARACTERS, ResultQuery
from evalmesh.v1 import reports_pb2 as pb
from evalmesh.wire.names import report_name

PIECE_BYTES = 1 << 20
SCORE_STATES = ("", "scored", "unscored", "errored", "not_run")
_ORDER = re.compile(r"([^\s,]{1,100}( (asc|desc))?)?")


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


def check_query(query: ResultQuery) -> ResultQuery:
    """The query; raises `InvalidInput` for what no results can have. Columns are known to the results alone."""
    if query.state not in SCORE_STATES:
        raise InvalidInput(
            f"score_state: {query.state[:100]!r} is not known; use scored, unscored, errored, or leave it empty for "
            f"all.",
            {"field": "score_state"},
        )
    if unknown := sorted(set(query.grades) - set(GRADES)):
        raise InvalidInput(
            f"grades: {unknown[0][:100]!r} is not known; use any of {', '.join(GRADES)}.", {"field": "grades"}
        )
    if len(query.search) > MOST_SEARCH_CHARACTERS:
        raise InvalidInput(
            f"search: {len(query.search)} characters are too many; use at most {MOST_SEARCH_CHARACTERS}.",
            {"field": "search"},
        )
    if not _ORDER.fullmatch(query.order_by):
        raise InvalidInput(
            f"order_by: {query.order_by[:100]!r} is no order; write a column, or `column desc` for the largest first.",
            {"field": "order_by"},
        )
    return query


def query_to_proto(parent: str, benchmark: str, query: ResultQuery) -> pb.QueryResultsRequest:
    """What is asked of the results of one benchmark. Raises `InvalidInput`."""
    check_query(query)
    return pb.QueryResultsRequest(
        parent=parent,
        benchmark=benchmark,
        score_state=query.state,
        subset=query.subset,
        grades=query.grades,
        search=query.search,
        sample_id=query.sample_id,
        order_by=query.order_by,
        columns=query.columns,
    )


def query_from_proto(request: pb.QueryResultsRequest) -> ResultQuery:
    """Likewise."""
    return check_query(
        ResultQuery(
            grades=tuple(request.grades),
            state=request.score_state,
            subset=request.subset,
            sample_id=request.sample_id,
            search=request.search,
            order_by=request.order_by,
            columns=tuple(request.columns),
        )
    )


def pieces(data: bytes) -> Iterator[bytes]:
    """Cuts bytes into pieces small enough for one message."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
