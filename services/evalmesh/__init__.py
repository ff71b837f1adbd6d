"""Evaluation and stress-testing of models, on one machine or across a cluster.

    from evalmesh import TaskConfig, run_task
    report = run_task(TaskConfig(model="my-model", api_url="http://127.0.0.1:8000/v1", datasets=["gsm8k"], limit=5))

    from evalmesh import compare
    compare("outputs/20260101_120000_a", "outputs/20260101_130000_b").rows()

    from evalmesh import PerfConfig, run_perf
    perf = run_perf(PerfConfig(model="my-model", url="http://127.0.0.1:8000/v1/chat/completions", parallel=[1, 8]))

Names are loaded when they are first used: importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "run_task": "evalmesh.cli.eval.task",
    "TaskConfig": "evalmesh.cli.eval.config",
    "compare": "evalmesh.cli.eval.compare_task",
    "run_perf": "evalmesh.cli.perf.task",
    "PerfConfig": "evalmesh.cli.perf.config",
    "Client": "evalmesh.sdk",
    "AsyncClient": "evalmesh.sdk",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("evalmesh")
    raise AttributeError(f"module 'evalmesh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
