"""`evalmesh eval`."""

import argparse
import dataclasses
from enum import Enum
from typing import Any

import yaml

from evalmesh.cli import exits
from evalmesh.cli.evaluate import evaluate, validate
from evalmesh.cli.loading import load_config
from evalmesh.cli.session import run_async
from evalmesh.cli.show import is_live, make_console, show_outcome

_NOT_CONFIG = frozenset({"command", "module", "parser", "config"})


def run(args: argparse.Namespace) -> int:
    """Flags over file over defaults."""
    said = {name: value for name, value in vars(args).items() if name not in _NOT_CONFIG}
    config = load_config(args.config or {}, said)
    if config.dry_run:
        spec = run_async(validate(config))
        print(yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True), end="")
        return exits.OK
    if config.demo:
        make_console(stderr=True).print("The model is simulated, reached over real HTTP; see --api-url for your own.")
    outcome = run_async(evaluate(config, make_console(stderr=True), live=is_live()))
    show_outcome(make_console(), outcome, work_dir=config.work_dir)
    return outcome.exit_code(ignore_errors=config.ignore_errors)


def plain(value: Any) -> Any:
    """Dataclasses as mappings for YAML, without what is not set."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, plain(getattr(value, field.name))) for field in dataclasses.fields(value))
        return {name: item for name, item in items if item not in (None, "", [], {}) and item is not False}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
