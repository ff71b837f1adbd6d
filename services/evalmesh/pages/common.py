"""What all reports that are one page have in common: templates, style, the one script, how values are shown."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Assets:
    """Files of this package that a page holds, as they are: none of it is user text."""

    style: Markup
    script: Markup
    script_digest: str
    """base64 of its sha256: the page's policy admits this one script and nothing else."""


@cache
def assets(*more: str) -> Assets:
    """The style and the script of all pages, and what a page adds to either."""
    names = ("report.css", "report.js", *more)
    style = "".join(_read(name) for name in names if name.endswith(".css"))
    script = "".join(_read(name) for name in names if name.endswith(".js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Assets(Markup(style), Markup(script), digest)  # noqa: S704  (both are our own files)


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def environment(filters: Mapping[str, Callable[..., Any]], values: Mapping[str, Any]) -> Environment:
    """Templates in which everything from outside is shown as text, with these filters and global values besides."""
    found = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"count": count, "when": when, "plain_json": plain_json, "duration": duration, **filters}
    found.globals |= values
    return found


def count(value: float) -> str:
    """With thousands apart: 1,234,567."""
    return f"{value:,}"


def when(time: str | None) -> str:
    """RFC 3339 as people read it."""
    if not time:
        return "-"
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S UTC")


def plain_json(value: Any) -> str:
    """A value of the configuration."""
    return json.dumps(value, ensure_ascii=False)


def duration(duration_s: float | None) -> str:
    """Seconds below a minute, else the two largest units."""
    if duration_s is None:
        return "-"
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


class Again(NamedTuple):
    """How the same is asked for again."""

    code: str
    is_command: bool
    """For a shell; else Python."""


def again(command: str, client_config: str, api_name: str, resource_id: str) -> Again:
    """The client's own words as a command, or, of what came without any, how its spec is submitted once more."""
    if client_config:
        words = json.dumps(json.loads(client_config), ensure_ascii=False, indent=2)
        words = words.encode("utf-8", "backslashreplace").decode()  # half a character is an escape in JSON, too
        return Again(f"evalmesh {command} -c - <<'END'\n{words}\nEND", is_command=True)
    submit = f"client.create_{api_name}(client.get_{api_name}({resource_id!r}).spec)"
    return Again(f'from evalmesh import Client\n\nwith Client("HOST:PORT") as client:\n    {submit}', is_command=False)


def config_rows(config: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Name and value of every setting that says something."""
    rows = []
    for name, value in config.items():
        if value in (None, "", [], {}):
            continue
        shown = value if isinstance(value, str) else plain_json(value)
        rows.append((name.replace("_", " "), shown))
    return rows
