"""Which rows of a table fulfil a query, grades aside."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from evalmesh.domain.result_query import ResultQuery
from evalmesh.results.query import SEARCHED


def matches(table: pa.Table, query: ResultQuery) -> list[int]:
    """Their numbers in the table, which has the columns that the query looks at."""
    tests = [pc.equal(table[name], getattr(query, name)) for name in ("state", "subset") if getattr(query, name)]
    if query.sample_id:
        tests.append(_by_id(table, query.sample_id))
    if query.search:
        tests.append(_search(table, query.search))
    mask = tests[0]
    for test in tests[1:]:
        mask = pc.and_(mask, test)
    found: list[int] = pc.indices_nonzero(mask).to_pylist()
    return found


def _by_id(table: pa.Table, sample_id: str) -> Any:
    id_, _, repeat = sample_id.rpartition("#")
    one = pc.equal(table["sample_id"], sample_id)
    if id_ and repeat.isdecimal() and len(repeat) < 10:
        one = pc.or_(one, pc.and_(pc.equal(table["sample_id"], id_), pc.equal(table["repeat"], int(repeat))))
    return one


def _search(table: pa.Table, text: str) -> Any:
    """Which rows have the text in what is their own. A prompt may be full of examples: it counts without a question."""
    question = pc.if_else(pc.equal(pc.fill_null(table["input"], ""), ""), table["prompt"], table["input"])
    columns = [question, pc.binary_join(table["target"], "\n"), *(table[name] for name in SEARCHED if name != "input")]
    found = pc.match_substring(columns[0], text, ignore_case=True)
    for column in columns:
        hit = pc.match_substring(column, text, ignore_case=True)
        found = pc.or_(pc.fill_null(found, False), pc.fill_null(hit, False))  # noqa: FBT003  (Arrow's way)
    return found
