"""Where figures are sent to beside the outputs: checked before anything is spent, repeatable alone."""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

from evalmesh.domain.errors import EvalmeshError

_KEY_WORDS = re.compile(r"key|token|secret|password|headers", re.IGNORECASE)
"""Options of exporters that may be keys; they must be given again."""


def check_sinks(sinks: Sequence[str], options: Mapping[str, Any]) -> None:
    """Whether every sink could be sent to now. Raises what the first one that cannot says, in the words of the config.

    What is found out only after an hour of work costs that hour.
    """
    if not sinks:
        return
    exporters = import_module("evalmesh.adapters.exporters")
    for sink in sinks:
        try:
            exporters.check(sink, options)
        except EvalmeshError as error:
            said = error.message.removeprefix("export: ")
            raise type(error)(f"export: {sink} cannot be used now: {said}", {"field": "export"}) from None


def send(
    sinks: Sequence[str], document: Mapping[str, Any], folder: Path, options: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """(where it went, in words; why it did not, by sink)."""
    exporters = import_module("evalmesh.adapters.exporters")
    said, errors = [], {}
    for sink in sinks:
        try:
            said.append(f"{sink}: {exporters.export(sink, document, folder, options)}")
        except (EvalmeshError, OSError) as error:
            errors[sink] = str(error)
    return said, errors


def again_command(document: Path, sink: str, options: Mapping[str, Any]) -> str:
    """Exports what was measured before, and measures nothing. Keys are not in it."""
    shown = [f"{name}={value}" for name, value in without_keys(options).items()]
    args = f" --export-args {quote(','.join(shown))}" if shown else ""
    return f"evalmesh perf export {quote(str(document))} --export {sink}{args}"


def without_keys(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that may be written down."""
    return {name: value for name, value in options.items() if not _KEY_WORDS.search(name)}


def options_of(name: str, work_dir: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What every exporter is told, and over it what was said."""
    return {"name": name, "store": str(Path(work_dir).expanduser().absolute()), **given}
