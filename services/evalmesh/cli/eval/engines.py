"""Which engine runs the model of a config, and what then makes no sense."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from evalmesh.cli.eval.keys import EVAL_TYPES
from evalmesh.dialect.addresses import read_address
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import OWN_ENGINES, Engine

_OF_SERVERS = ("api_url", "api_key", "connection", "headers", "ca_file", "insecure", "stream", "demo")
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
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
    if not elsewhere and _is_folder(given.get("model")):
        return "transformers"
    return "anthropic" if _names_messages(given.get("api_url")) else "openai"


def _names_messages(url: object) -> bool:
    try:
        return read_address(str(url or "").strip()).call == "messages"
    except ValueError:
        return False


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


def kind_for(name: str, args: Mapping[str, Any], server: str | None) -> Literal["chat", "completion"]:
    """How a model that runs here is asked where nothing is said: a base model has no chat template to be asked by."""
    if args.get("chat_template") or server:
        return "chat"
    folder = Path(str(args.get("tokenizer") or args.get("tokenizer_path") or name)).expanduser()
    said = folder / "tokenizer_config.json"
    try:
        if any((folder / file).exists() for file in _TEMPLATES) or not said.is_file():
            return "chat"
        return "chat" if json.loads(said.read_bytes()).get("chat_template") else "completion"
    except (OSError, ValueError, AttributeError):
        return "chat"  # whoever loads it will say what is wrong


def told_of_kind(given: Mapping[str, Any]) -> list[str]:
    """Sentences on what was chosen for the user."""
    name, server = given.get("model"), given.get("server")
    chosen = isinstance(name, str) and not given.get("request_kind") and runs_here(given)
    if not chosen or kind_for(str(name), given["model_args"], server) == "chat":
        return []
    return [f"The model {name} has no chat template, so it is asked in plain text (--request-kind completion)."]


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
