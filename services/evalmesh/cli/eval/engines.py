"""Which engine runs the model of a config, and what then makes no sense."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalmesh.cli.eval.keys import EVAL_TYPES
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import OWN_ENGINES, Engine

_OF_SERVERS = ("api_url", "api_key", "connection", "headers", "ca_file", "insecure", "stream", "demo")
_PATHS = frozenset({"tokenizer", "tokenizer_path", "chat_template", "lora"})
IN_FLIGHT = 1024
"""In flight in an engine that runs here, where nothing is said: it takes as many of them as it likes."""


def engine_of(given: Mapping[str, Any]) -> Engine:
    """Of a config's keys: as `engine` or `eval_type` says, else by what `model` names.

    Raises `InvalidInput` when they contradict each other.
    """
    said, of_type = given.get("engine"), EVAL_TYPES.get(str(given.get("eval_type")))
    if given.get("completions"):
        return "recorded"
    if said and of_type and said != of_type:
        raise InvalidInput(
            f"engine: {said!r} contradicts eval_type {given['eval_type']!r}, which means {of_type}; leave one out.",
            {"field": "engine"},
        )
    engine: Engine | None = said or of_type
    if engine is not None:
        return engine
    elsewhere = any(map(given.get, ("api_url", "connection", "demo", "server")))
    return "transformers" if not elsewhere and _is_folder(given.get("model")) else "openai"


def runs_here(given: Mapping[str, Any]) -> bool:
    """Whether the model is run by an engine of ours."""
    return engine_of(given) in OWN_ENGINES


def check_runs_here(given: Mapping[str, Any], engine: Engine) -> None:
    """What is for servers alone was not typed. Raises `InvalidInput`."""
    for key in _OF_SERVERS:
        if given.get(key):
            raise InvalidInput(
                f"{key}: the engine {engine} runs the model itself and asks no server; leave out {key}, or engine.",
                {"field": key},
            )


def model_name(name: str, server: str | None) -> str:
    """Of a model that runs here: its folder, absolute, or its name on a hub, as it is on a server's own disk too."""
    return str(Path(name).expanduser().absolute()) if not server and _is_folder(name) else name


def engine_args(args: Mapping[str, Any], server: str | None) -> dict[str, Any]:
    """With files that are here named so that they are found from everywhere."""
    return {
        name: str(Path(value).expanduser().absolute()) if name in _PATHS and not server and _is_there(value) else value
        for name, value in args.items()
    }


def _is_there(name: object) -> bool:
    try:
        return isinstance(name, str) and bool(name) and Path(name).expanduser().exists()
    except (OSError, ValueError):
        return False


def _is_folder(name: object) -> bool:
    """Whether it can only be a folder: there is one, or it is written like one."""
    if not isinstance(name, str) or not name:
        return False
    try:
        return name.startswith(("/", "./", "../", "~")) or name in {".", ".."} or Path(name).is_dir()
    except (OSError, ValueError):
        return False
