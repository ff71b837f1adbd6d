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


def turns_of(prompt: str) -> list[tuple[str, str]]:
    """A prompt as (role, text) of each turn; one without roles is one turn of none. Media stand as `[image ...]`."""
    try:
        turns = json.loads(prompt) if prompt.startswith("[{") else None
    except ValueError:
        turns = None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return [("", prompt)]
    return [(str(turn["role"]), _turn_text(turn)) for turn in turns]


def _turn_text(turn: dict[str, Any]) -> str:
    content = turn.get("content")
    parts = content if isinstance(content, list) else [{"kind": "text", "text": content}]
    texts = [str(part.get("text") or "") if part.get("kind") == "text" else _medium(part) for part in parts]
    texts += [f"[calls {call.get('name')}({call.get('arguments')})]" for call in turn.get("tool_calls") or ()]
    return "\n".join(text for text in texts if text)


def _medium(part: dict[str, Any]) -> str:
    size = f", {part['size_bytes']:,} bytes" if part.get("size_bytes") else ""
    return f"[{part.get('kind')} {part.get('mime') or ''}{size}, sha256 {str(part.get('sha256'))[:12]}]"
