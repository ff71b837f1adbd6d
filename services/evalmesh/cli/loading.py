"""Configs from every form `run_task` and `-c` take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalmesh.cli.eval.config import TaskConfig, checked
from evalmesh.cli.options import read_config_file
from evalmesh.domain.errors import InvalidInput

ConfigSource = TaskConfig | Mapping[str, Any] | str | Path


def load_config(source: ConfigSource, overrides: Mapping[str, Any] | None = None) -> TaskConfig:
    """Checks a config; `overrides` (what was said on the command line) win over what the source says.

    `dataset_args`, `generation_config`, `model_args` and `labels` of both are merged key by key.
    """
    if isinstance(source, TaskConfig):
        values = {name: getattr(source, name) for name in source.model_fields_set} if overrides else {}
        if not overrides:
            return checked(source)
    elif isinstance(source, Mapping):
        values = dict(source)
    elif isinstance(source, (str, Path)):
        values = read_config_file(Path(source).expanduser())
    else:
        raise InvalidInput(
            f"config: a {type(source).__name__} is no config; pass a TaskConfig, a mapping, or the path of a YAML or "
            f"JSON file.",
            {"field": "config"},
        )
    return TaskConfig(**_merged(values, overrides or {}))


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    # Both sides may still be text (`k=v,k=v`), so each is parsed by a config of its own.
    merged = {**base, **top}
    for name in ("model_args", "generation_config", "dataset_args", "labels"):
        if name in base and name in top:
            below = getattr(TaskConfig(**{name: base[name]}), name)
            above = getattr(TaskConfig(**{name: top[name]}), name)
            merged[name] = {**below, **above}
    return merged
