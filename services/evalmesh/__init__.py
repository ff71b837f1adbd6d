"""Evaluation and stress-testing of models, on one machine or across a cluster.

    from evalmesh import TaskConfig, run_task
    report = run_task(TaskConfig(model="my-model", api_url="http://127.0.0.1:8000/v1", datasets=["gsm8k"], limit=5))

    from evalmesh import compare
    compare("outputs/20260101_120000_a", "outputs/20260101_130000_b").rows()

    from evalmesh import PerfConfig, run_perf
    perf = run_perf(PerfConfig(model="my-model", url="http://127.0.0.1:8000/v1/chat/completions", parallel=[1, 8]))

Both return what `report.json` and `perf.json` hold, with `folder`, `rows()`, `to_dataframe()`, `samples()`; errors are
`EvalmeshError` and the classes below it. Names are loaded when first used: importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalmesh.cli.documents import PerfReport, Report
    from evalmesh.cli.eval.compare_task import compare
    from evalmesh.cli.eval.config import TaskConfig
    from evalmesh.cli.eval.task import run_task
    from evalmesh.cli.perf.config import PerfConfig
    from evalmesh.cli.perf.task import run_perf
    from evalmesh.domain.errors import (
        AlreadyExists,
        Conflict,
        DeadlineExceeded,
        EvalmeshError,
        FailedPrecondition,
        InternalError,
        InvalidInput,
        NotFound,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from evalmesh.sdk import AsyncClient, Client

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "EvalmeshError",
    "FailedPrecondition",
    "InternalError",
    "InvalidInput",
    "NotFound",
    "OutOfRange",
    "PerfConfig",
    "PerfReport",
    "PermissionDenied",
    "Report",
    "ResourceExhausted",
    "TaskConfig",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "compare",
    "run_perf",
    "run_task",
]
_MODULES = {
    "AsyncClient": "evalmesh.sdk",
    "Client": "evalmesh.sdk",
    "PerfConfig": "evalmesh.cli.perf.config",
    "PerfReport": "evalmesh.cli.documents",
    "Report": "evalmesh.cli.documents",
    "TaskConfig": "evalmesh.cli.eval.config",
    "compare": "evalmesh.cli.eval.compare_task",
    "run_perf": "evalmesh.cli.perf.task",
    "run_task": "evalmesh.cli.eval.task",
}
"""Where names are; all others are errors."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_MODULES.get(name, "evalmesh.domain.errors")), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("evalmesh")
    raise AttributeError(f"module 'evalmesh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
