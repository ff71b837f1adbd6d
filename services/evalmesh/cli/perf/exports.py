"""Where the document of a load test is sent to: checked before any load is offered, and repeatable alone."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.outcome import PerfOutcome
from evalmesh.cli.perf.spec import KEY_WORDS
from evalmesh.domain.errors import EvalmeshError, InvalidInput, NotFound


def sinks_of(config: PerfConfig) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys([*config.export, *([config.visualizer] if config.visualizer else [])]))


def check_exports(config: PerfConfig) -> None:
    """Whether every sink could be sent to now. Raises what the first one that cannot says, in the words of the config.

    What is found out only after an hour of load costs that hour.
    """
    sinks = sinks_of(config)
    if not sinks:
        return
    _give_keys(config)
    exporters = import_module("evalmesh.adapters.exporters")
    for sink in sinks:
        try:
            exporters.check(sink, _options(config, ""))
        except EvalmeshError as error:
            said = error.message.removeprefix("export: ")
            raise type(error)(f"export: {sink} cannot be used now: {said}", {"field": "export"}) from None


def export(config: PerfConfig, outcome: PerfOutcome) -> PerfOutcome:
    """Sends the document to the sinks that were asked for; what fails is said, and takes nothing away."""
    sinks = sinks_of(config)
    if not sinks or outcome.perf is None:
        return outcome
    _give_keys(config)
    said, errors = send(sinks, outcome.perf, outcome.folder, _options(config, outcome.load_test.id))
    again = tuple(again_command(outcome.folder, sink, config.export_args) for sink in errors)
    lines = (*outcome.export_errors, *(f"{sink}: {why}" for sink, why in errors.items()))
    return PerfOutcome(
        outcome.load_test, outcome.folder, outcome.perf, outcome.interrupted, lines, tuple(said), export_again=again
    )


def send(
    sinks: Sequence[str], perf: Mapping[str, Any], folder: Path, options: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """(where it went, in words; why it did not, by sink)."""
    exporters = import_module("evalmesh.adapters.exporters")
    said, errors = [], {}
    for sink in sinks:
        try:
            said.append(f"{sink}: {exporters.export(sink, perf, folder, options)}")
        except (EvalmeshError, OSError) as error:
            errors[sink] = str(error)
    return said, errors


def again_command(folder: Path, sink: str, options: Mapping[str, Any]) -> str:
    """Exports a load test that was run before, and offers no load. Keys are not in it."""
    shown = [f"{name}={value}" for name, value in options.items() if not KEY_WORDS.search(name)]
    args = f" --export-args {quote(','.join(shown))}" if shown else ""
    return f"evalmesh perf export {quote(str(folder))} --export {sink}{args}"


def _options(config: PerfConfig, load_test: str) -> dict[str, Any]:
    store = str(Path(config.work_dir).expanduser().absolute())
    return {"name": config.name or load_test, "store": store, **config.export_args}


def _give_keys(config: PerfConfig) -> None:
    """Where the sinks' own libraries look for them."""
    if config.wandb_api_key is not None:
        os.environ["WANDB_API_KEY"] = config.wandb_api_key.get_secret_value()
    if config.swanlab_api_key is not None:
        os.environ["SWANLAB_API_KEY"] = config.swanlab_api_key.get_secret_value()
    if config.swanlab_host:
        os.environ["SWANLAB_HOST"] = config.swanlab_host


def export_again(args: argparse.Namespace) -> int:
    """`perf export`: of a load test whose outputs are here."""
    said = {name: value for name, value in vars(args).items() if name in {"export", "export_args", "name", "work_dir"}}
    config = PerfConfig(**{name: value for name, value in said.items() if value})
    if not config.export:
        raise InvalidInput("export: missing; say where to, e.g. --export mlflow.", {"field": "export"})
    work_dir = Path(config.work_dir).expanduser()
    path = LOAD_TESTS.report_at(Path(args.load_test).expanduser())
    if path is None:
        folder = LOAD_TESTS.find_folder(LOAD_TESTS.id_of(args.load_test), work_dir)
        path = None if folder is None else LOAD_TESTS.report_at(folder)
    if path is None:
        raise NotFound(f"There is no {args.load_test!r} with a perf.json; give an outputs folder, or its perf.json.")
    perf = LOAD_TESTS.read_report(path)
    check_exports(config)
    done, errors = send(sinks_of(config), perf, path.parent, _options(config, perf["load_test"]["id"]))
    for line in done:
        print(line)
    for sink, why in errors.items():
        print(f"export failed: {sink}: {why}", file=sys.stderr)
    return exits.FAILED if errors else exits.OK
