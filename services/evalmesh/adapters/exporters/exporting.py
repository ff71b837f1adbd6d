"""The one way to every sink."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from evalmesh.adapters.exporters.figures import Record, record_of
from evalmesh.adapters.exporters.job import Job
from evalmesh.domain.errors import EvalmeshError, FailedPrecondition, InvalidInput, NotFound, Unavailable

SINKS = ("wandb", "swanlab", "mlflow", "clearml", "otlp", "prometheus", "csv")
"""Names of what there is."""

_TIMEOUT_S = 600.0
_NOTHING = Record("load test", "", "", "", "", [], {}, {}, {}, ())
"""For a check, which sends nothing."""


def export(name: str, document: Mapping[str, Any], folder: Path, options: Mapping[str, Any]) -> str:
    """Sends a load test as one run with a step per level, or an evaluation. Blocks; may take seconds.

    Args:
        name: One of `SINKS`.
        document: `perf.json` or `report.json`.
        folder: Where it and its page lie. Sinks without a server put what they keep beside them.
        options: `name` of the run, `project`, `url`, `mode` and what else the sink's module lists. `NAME_OPTION` goes
            before `OPTION`, for options that are given to several sinks. `python` names the interpreter of another
            environment to run the sink in.

    Returns:
        Where it went, for the user.

    Raises:
        InvalidInput: There is no such sink, or an option does not fit.
        FailedPrecondition: Its package is missing.
        Unauthenticated: Its key is missing.
        Unavailable: Its server does not take it.
    """
    if name not in SINKS:
        raise InvalidInput(f"export: there is no {name!r}; there are {', '.join(SINKS)}.", {"field": "export"})
    job = Job(
        name, record_of(document), folder, {key: str(value) for key, value in options.items() if value is not None}
    )
    try:
        if job.option("python"):
            return _elsewhere(job)
        send = import_module(f"evalmesh.adapters.exporters.to_{name}").send
        with _without_arguments():
            return str(send(job))
    except EvalmeshError:
        raise
    except Exception as error:  # noqa: BLE001 - packages raise what they like; the load test itself is reported
        raise Unavailable(job.redacted(f"its package failed: {type(error).__name__}: {error}")) from None


def check(name: str, options: Mapping[str, Any]) -> None:
    """Whether a sink could be sent to now: package, options, key, and that its address answers. Sends nothing.

    Raises what `export` would.
    """
    if name not in SINKS:
        raise InvalidInput(f"export: there is no {name!r}; there are {', '.join(SINKS)}.", {"field": "export"})
    job = Job(name, _NOTHING, Path(), {key: str(value) for key, value in options.items() if value is not None})
    if job.option("python"):
        _run_elsewhere(job, ["--check"])
    else:
        import_module(f"evalmesh.adapters.exporters.to_{name}").check(job)


@contextmanager
def _without_arguments() -> Iterator[None]:
    """Trackers note how their process was started, and a command line may hold the key of the endpoint."""
    kept = sys.argv
    sys.argv = kept[:1]
    try:
        yield
    finally:
        sys.argv = kept


def _elsewhere(job: Job) -> str:
    """In another environment, which needs the sink's package and evalmesh without its dependencies."""
    document = job.folder / job.record.files[-1]
    if not document.is_file():
        raise NotFound(f"there is no {document}; another environment reads it from there.")
    return _run_elsewhere(job, [str(document)]).rpartition("\n")[2]


def _run_elsewhere(job: Job, words: Sequence[str]) -> str:
    """What it said, stripped."""
    shown = {key: value for key, value in job.options.items() if key not in {"python", f"{job.sink}_python"}}
    python = str(Path(job.option("python")).expanduser())
    command = [python, "-m", "evalmesh.adapters.exporters", job.sink, *words, "--options-stdin"]
    lines = "".join(f"{key}={value}\n" for key, value in shown.items())
    try:
        # Options go through standard input: they may hold a key, and arguments can be seen by everybody.
        done = subprocess.run(  # noqa: S603 - the interpreter is the user's own
            command, input=lines, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=_environment()
        )
    except OSError as error:
        raise FailedPrecondition(f"{command[0]} cannot be run: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} was not done after {_TIMEOUT_S:g} s.") from None
    if done.returncode:
        said = job.redacted(done.stderr.strip()[-600:])
        raise Unavailable(f"{command[0]} failed with exit code {done.returncode}: {said}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """Ours, without what would lead another interpreter into our packages."""
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
