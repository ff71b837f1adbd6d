"""One sample result as the JSON text that a message or a line holds."""

import json
from typing import Any

ROW_BYTES = 16 << 20
"""The longest row that is sent as it is; messages may have 64 MiB, and the client holds a row several times."""
_KEPT_CHARS = 1 << 18
"""Of each text of a longer row."""
_KEPT_ITEMS = 4
"""Of each list of one."""


def row_text(row: dict[str, Any]) -> str:
    """The row; of one that no message holds, the beginnings of its texts, each with a mark that says so."""
    text = json.dumps(row, default=str)
    if len(text) <= ROW_BYTES:
        return text
    return json.dumps({name: _shortened(value) for name, value in row.items()}, default=str)


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        kept = [_shortened(item) for item in value[:_KEPT_ITEMS]]
        return kept if len(value) <= _KEPT_ITEMS else [*kept, f"[... cut: {len(value)} in all]"]
    if not isinstance(value, str) or len(value) <= _KEPT_CHARS:
        return value
    return f"{value[:_KEPT_CHARS]} [... cut: {len(value)} characters in all, which the exported results hold]"
