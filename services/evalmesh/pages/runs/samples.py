"""Sample results inside a page: JSON by column, packed, which the page's script unpacks as it is wanted.

Packed they are letters, digits and `+/=`: whatever a model wrote, a page is never told to do anything by it.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import IO, Any

import msgspec

MOST_CHARACTERS = 1 << 15
"""Of one text; of a longer one the page has beginning and end."""
_KEPT_OF_END = MOST_CHARACTERS // 4
_SNIPPET = 200
_EFFORT = 3
"""Of zlib, of 9: more takes twice the time for a tenth of the bytes."""
_LEAST_SHARED = 200
"""Characters that must be equal before it is worth saying so."""
_encode = msgspec.json.Encoder().encode

COLUMNS = (
    "sample_id",
    "repeat",
    "subset",
    "index",
    "grade",
    "state",
    "input",
    "target",
    "prompt",
    "completion",
    "reasoning",
    "finish_reason",
    "answer",
    "extractor",
    "explanation",
    "reason",
    "error_class",
    "error_message",
    "http_status",
    "tries",
    "input_tokens",
    "output_tokens",
    "latency_s",
    "ttft_s",
    "refusal",
    "tool_calls",
    "media",
    "continuations",
    "metadata",
    "reused_from",
    "outcome",
    "turns",
)
"""What the page shows of a row, beside its scores, where there are these columns."""


def pack(columns: Mapping[str, list[Any]], scores: Sequence[str], benchmark: int, out: IO[str]) -> int:
    """Writes rows as two elements, what their list shows and all that the page shows; returns how many bytes."""
    light = _light(columns, scores)
    full = {name: _cut(values) for name, values in columns.items() if name in _FULL or name in scores}
    full["target"] = [" | ".join(target or ()) for target in columns["target"]]
    turns = columns.get("turns") or [None] * len(columns["prompt"])
    said = [_with_turns(prompt or "", then) for prompt, then in zip(columns["prompt"], turns, strict=True)]
    full["shared"], full["prompt"] = _shared(list(map(_cut_prompt, said)))
    full = {name: values for name, values in full.items() if any(value not in (None, "", 0) for value in values)}
    rows = len(columns["sample_id"])
    written = 0
    for kind, values in (("light", light), ("full", full)):
        packed = base64.b64encode(zlib.compress(_encode(values), _EFFORT)).decode()
        written += out.write(
            f'<script type="text/plain" data-samples="{kind}" data-benchmark="{benchmark}" data-rows="{rows}">'
            f"{packed}</script>\n"
        )
    return written


_FULL = frozenset(COLUMNS) - {"sample_id", "repeat", "subset", "grade", "state", "target", "prompt", "turns"}


def _with_turns(prompt: str, turns: str | None) -> str:
    """All that was said before the last answer: both are lists of turns."""
    return f"{prompt[:-1]},{turns[1:]}" if turns else prompt


def _light(columns: Mapping[str, list[Any]], scores: Sequence[str]) -> dict[str, list[Any]]:
    """What a list of many rows is made of."""
    said = zip(columns["state"], columns["input"], columns["prompt"], columns["reason"], strict=True)
    primary = columns[scores[0]] if scores else [None] * len(columns["state"])
    return {
        "id": columns["sample_id"],
        "repeat": columns["repeat"],
        "subset": columns["subset"],
        "grade": columns["grade"],
        "answer": [(answer or "")[:_SNIPPET] for answer in columns["answer"]],
        "target": [" | ".join(target or ())[:_SNIPPET] for target in columns["target"]],
        "text": [
            ((text or prompt or "") if state == "scored" else (reason or text or ""))[:_SNIPPET]
            for state, text, prompt, reason in said
        ],
        "score": [value if value not in (0.0, 1.0) else None for value in primary],
    }


def _cut(values: list[Any]) -> list[Any]:
    return [_shortened(value) if isinstance(value, str) else value for value in values]


def _shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    if len(text) <= most:
        return text
    left_out = len(text) - MOST_CHARACTERS
    mark = f"\n\n[... {left_out:,} characters are left out here; the results file has them ...]\n\n"
    return f"{text[: MOST_CHARACTERS - _KEPT_OF_END]}{mark}{text[-_KEPT_OF_END:]}"


def _cut_prompt(prompt: str) -> str:
    if len(prompt) <= 2 * MOST_CHARACTERS:
        return prompt
    try:
        turns = json.loads(prompt) if prompt.startswith("[{") else None
    except ValueError:
        turns = None
    if not isinstance(turns, list):
        return _shortened(prompt)
    for turn in turns:
        if isinstance(turn, dict) and isinstance(turn.get("content"), str):
            turn["content"] = _shortened(turn["content"])
    cut = json.dumps(turns[-64:])
    return cut if len(cut) <= 8 * MOST_CHARACTERS else _shortened(prompt)


def _shared(texts: Sequence[str]) -> tuple[list[int], list[str]]:
    """Each text as what it begins with like the one before, in UTF-16 units as scripts count, and the rest.

    Prompts with solved examples differ in their ends alone.
    """
    counts, rests, before, equal = [], [], "", 0
    for text in texts:
        equal = _equal_characters(before, text, equal)
        if equal < _LEAST_SHARED:
            counts.append(0)
            rests.append(text)
        else:
            counts.append(len(text[:equal].encode("utf-16-le", "surrogatepass")) // 2)
            rests.append(text[equal:])
        before = text
    return counts, rests


def _equal_characters(one: str, other: str, guess: int) -> int:
    """How many characters two texts begin with alike; `guess` is often near below."""
    least, most = 0, min(len(one), len(other))
    if guess <= most and one[:guess] == other[:guess]:
        least = guess
        near = min(most, guess + 16)
        if near > guess and one[guess:near] != other[guess:near]:
            most = near
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
