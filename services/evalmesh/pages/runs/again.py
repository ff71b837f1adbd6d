"""How a run is asked for again: the command that its client would type."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from evalmesh.pages.common import Again
from evalmesh.pages.common import again as from_file

_OF_SCORE = frozenset(
    {
        "completions",
        "dataset_args",
        "dataset_dir",
        "dataset_hub",
        "datasets",
        "ignore_errors",
        "labels",
        "limit",
        "model",
        "name",
        "no_predictions",
        "on_error",
        "repeats",
        "server",
    }
)
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_MOST_CHARACTERS = 4000
_LINE = 100


def again(client_config: str, run_id: str) -> Again:
    """As flags, quoted for a shell; as a config on standard input where flags cannot say it or nobody could read them.

    A run that came without words of its client is submitted once more by its spec.
    """
    words = json.loads(client_config) if client_config else None
    command = _command(words) if isinstance(words, dict) else None
    if command is None or len(command) > _MOST_CHARACTERS:
        return from_file("eval", client_config, "run", run_id)
    return Again(command, is_command=True)


def _command(words: Mapping[str, Any]) -> str | None:
    score = bool(words.get("completions")) and words.keys() <= _OF_SCORE and len(words.get("datasets", ())) == 1
    lines = [f"evalmesh {'score' if score else 'eval'}"]
    try:
        for part in (part for key, value in words.items() for part in _flag(key, value, score=score)):
            if len(lines[-1]) + len(part) < _LINE:
                lines[-1] += f" {part}"
            else:
                lines.append(f"  {part}")
    except ValueError:
        return None
    return " \\\n".join(lines)


def _flag(key: str, value: Any, *, score: bool) -> Iterator[str]:
    """A flag with what belongs to it. Raises `ValueError` for what a flag cannot say."""
    if not _KEY.fullmatch(key):
        raise ValueError(key)
    name = f"--{key.replace('_', '-')}"
    if score and key == "datasets":
        name = "--dataset"
    if value is None or value in ([], {}):
        return
    if isinstance(value, bool):
        yield name if value else name.replace("--", "--no-", 1)
    elif isinstance(value, list):
        yield " ".join([name, *(_quoted(_plain(one)) for one in value)])
    else:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else _plain(value)
        yield f"{name}={_quoted(text)}" if text.startswith("-") else f"{name} {_quoted(text)}"


def _plain(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(value)  # noqa: TRY004  (it is a config that flags cannot say)
    return str(value)


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise ValueError(text)
    return shlex.quote(text)
