"""Where the document of a load test is sent to: checked before any load is offered, and repeatable alone."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.exports import again_command, check_sinks, options_of, send
from evalmesh.cli.outputs import LOAD_TESTS, RUNS
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.outcome import PerfOutcome
from evalmesh.domain.errors import InvalidInput, NotFound

_PATH_SIGNS = frozenset("/\\*?[")


def sinks_of(config: PerfConfig) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys([*config.export, *([config.visualizer] if config.visualizer else [])]))


def check_exports(config: PerfConfig) -> None:
    """Before any load is offered; see `check_sinks`."""
    _give_keys(config)
    check_sinks(sinks_of(config), _options(config, ""))


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


def _options(config: PerfConfig, load_test: str) -> dict[str, Any]:
    return options_of(config.name or load_test, config.work_dir, config.export_args)


def _give_keys(config: PerfConfig) -> None:
    """Where the sinks' own libraries look for them."""
    if config.wandb_api_key is not None:
        os.environ["WANDB_API_KEY"] = config.wandb_api_key.get_secret_value()
    if config.swanlab_api_key is not None:
        os.environ["SWANLAB_API_KEY"] = config.swanlab_api_key.get_secret_value()
    if config.swanlab_host:
        os.environ["SWANLAB_HOST"] = config.swanlab_host


def export_again(args: argparse.Namespace) -> int:
    """`perf export`: of a load test whose outputs are here, or of an evaluation's `report.json`."""
    said = {name: value for name, value in vars(args).items() if name in {"export", "export_args", "name", "work_dir"}}
    config = PerfConfig(**{name: value for name, value in said.items() if value})
    if not config.export:
        raise InvalidInput("export: missing; say where to, e.g. --export mlflow.", {"field": "export"})
    document, folder = _document(args.load_test, Path(config.work_dir).expanduser())
    check_exports(config)
    about = document.get("load_test") or document["run"]
    done, errors = send(sinks_of(config), document, folder, _options(config, about["id"]))
    for line in done:
        print(line)
    for sink, why in errors.items():
        print(f"export failed: {sink}: {why}", file=sys.stderr)
    return exits.FAILED if errors else exits.OK


def _document(text: str, work_dir: Path) -> tuple[dict[str, Any], Path]:
    """What a path or an id names, and the folder it lies in. Raises `NotFound` and `InvalidInput`."""
    given = Path(text).expanduser()
    if given.is_file():
        kind = RUNS if given.name == RUNS.report_file else LOAD_TESTS
        return kind.read_report(given), given.parent
    folder: Path | None = given
    if not given.is_dir():
        folder = None
        if not _PATH_SIGNS.intersection(text):
            folder = LOAD_TESTS.find_folder(LOAD_TESTS.id_of(text, work_dir), work_dir)
    for kind in (LOAD_TESTS, RUNS):
        if folder is not None and (path := kind.report_at(folder)) is not None:
            return kind.read_report(path), folder
    raise NotFound(f"There is no {text!r} with a report; give an outputs folder, its perf.json, or its report.json.")
