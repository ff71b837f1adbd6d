"""What the runs of a folder were when the last platform on it ended, so that a look at them needs no platform.

Each platform that may change something begins a generation. What is remembered counts only while no platform lives and
the generation is still the one it was written in: a platform that was killed leaves nothing that is believed.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalmesh.domain.errors import InternalError
from evalmesh.domain.run import Run
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.hosts import living_hosts
from evalmesh.runtime.private_files import write_private
from evalmesh.wire.codec import decode_json, encode_json

MOST_RUNS = 1000
"""With more, nothing is remembered: a look at them all costs what starting a platform does."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    generation: str
    runs: tuple[Run, ...]


def begin(settings: LocalSettings) -> str:
    """The generation of a platform that starts; a new one, unless it only looks."""
    known = _generation(settings.state_dir)
    if known and settings.only_looks:
        return known
    write_private(settings.state_dir / "generation", fresh := secrets.token_hex(8))
    return fresh


def remember(settings: LocalSettings, generation: str, runs: Sequence[Run]) -> None:
    """For a platform that is about to end, and the last one to live: what it would say of all runs."""
    alone = set(living_hosts(settings.hosts_dir)) <= {settings.host}
    if alone and _generation(settings.state_dir) == generation:
        data = encode_json(_Remembered(generation, tuple(runs)))
        write_private(settings.state_dir / "runs.json", data.decode())


def remembered(settings: LocalSettings) -> list[Run] | None:
    """All runs, newest first; `None` where only a platform can tell."""
    if living_hosts(settings.hosts_dir):
        return None
    try:
        known = decode_json(_Remembered, (settings.state_dir / "runs.json").read_bytes())
    except (OSError, InternalError):
        return None
    return list(known.runs) if known.generation == _generation(settings.state_dir) else None


def _generation(state_dir: Path) -> str:
    try:
        return (state_dir / "generation").read_text(encoding="utf-8")
    except OSError:
        return ""
