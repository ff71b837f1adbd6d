"""Files of completions made elsewhere, as the JSON Lines that a platform takes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalmesh.domain.errors import InvalidInput
from evalmesh.wire.row_files import Bad, RowFile, kind_by_name

_PARTS = ("reasoning", "refusal", "finish_reason", "tool_calls", "continuations")


@contextmanager
def as_json_lines(path: Path) -> Iterator[Path]:
    """The file itself, or one of the same rows for the time of the block. Raises `InvalidInput`.

    Parquet (our own results too), CSV, TSV, JSON lists and packed files are rewritten; rows of results that hold an
    error and no answer are left out, so that they count as missing.
    """
    kind = kind_by_name(path.name)
    packed = path.name.lower().endswith(".gz")
    if kind in {None, "text", "lines"} and not packed:
        yield path
        return
    file = RowFile(path, f"completions: {str(path)!r}", "completions")
    with TemporaryDirectory(prefix="evalmesh-") as scratch:
        made = Path(scratch) / "completions.jsonl"
        with made.open("w", encoding="utf-8") as lines:
            for where, row in file.rows("lines" if kind in {None, "text"} else kind):
                lines.write(_line(path, where, row))
        yield made


def _line(path: Path, where: str, row: Any) -> str:
    if isinstance(row, Bad) or not isinstance(row, Mapping):
        reason = row.reason if isinstance(row, Bad) else f"a {type(row).__name__}, expected an object"
        raise InvalidInput(f"completions: {str(path)!r}, {where}: {reason}.", {"field": "completions"})
    if "sample_id" in row and "error_class" in row:  # results of a run
        return "" if row["error_class"] or row.get("completion") is None else _dump(_of_result(row))
    return _dump(_of_cells(row))


def _of_result(row: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: row[name] for name in _PARTS if row.get(name)}
    return {"id": row["sample_id"], "repeat": row["repeat"], "text": row["completion"], **parts}


def _of_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose numbers may be texts, as those of CSV are."""
    kept = {name: value for name, value in row.items() if value is not None}
    for name in ("index", "repeat"):
        if isinstance(kept.get(name), str):
            digits = kept[name].strip()
            kept[name] = int(digits) if digits.isdecimal() else kept[name]
            if digits == "":
                del kept[name]
    return kept


def _dump(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"
