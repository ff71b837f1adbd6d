"""ClearML. Options: project, name, mode=offline.

Server and credentials are those of ClearML itself: `clearml.conf`, or CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and
CLEARML_API_SECRET_KEY. What ClearML would note about the process (its arguments, repository, uncommitted changes,
output) is switched off.
"""

import os
from pathlib import Path
from typing import Any

from evalmesh.adapters.exporters.job import Job, check_answers, need
from evalmesh.domain.errors import Unauthenticated

_FRAMEWORKS = (
    "detect_repository",
    "catboost",
    "fastai",
    "gradio",
    "hydra",
    "joblib",
    "lightgbm",
    "matplotlib",
    "megengine",
    "pytorch",
    "scikit",
    "tensorboard",
    "tensorflow",
    "tfdefines",
    "xgboost",
)
"""All that ClearML would watch. By name, since one `False` still looks for a repository, with git in a thread,
which has been seen to hang."""


def send(job: Job) -> str:
    """See `export`."""
    offline = _is_offline(job)
    if not offline:
        _check_key()
    os.environ.setdefault("CLEARML_SUPPRESS_UPDATE_MESSAGE", "1")
    task_class = need("clearml", job.sink).Task
    if offline:
        task_class.set_offline(True)
    task = task_class.init(
        project_name=job.project,
        task_name=job.run_name,
        task_type=task_class.TaskTypes.testing,
        reuse_last_task_id=False,
        auto_connect_arg_parser=False,
        auto_connect_frameworks=dict.fromkeys(_FRAMEWORKS, False),
        auto_resource_monitoring=False,
        auto_connect_streams=False,
    )
    try:
        _log(task, job)
        for path in job.files:
            task.upload_artifact(path.name, path, wait_on_upload=True)
        where = _where(task, offline=offline)
    except BaseException:
        task.mark_failed(ignore_errors=True)
        raise
    finally:
        task.close()
    return where


def check(job: Job) -> None:
    """See `exporting.check`."""
    need("clearml", job.sink)
    if _is_offline(job):
        return
    _check_key()
    if host := os.environ.get("CLEARML_API_HOST"):
        check_answers(host)


def _is_offline(job: Job) -> bool:
    return job.option("mode") == "offline" or os.environ.get("CLEARML_OFFLINE_MODE", "").lower() in {"1", "true"}


def _log(task: Any, job: Job) -> None:
    task.connect(dict(job.record.parameters), name=job.record.kind)
    logger = task.get_logger()
    for level in job.record.steps:
        for name, value in level.figures.items():
            title, _, series = f"level/{name}".rpartition("/")
            logger.report_scalar(title, series, value, level.step)
    for name, value in job.record.summary.items():
        logger.report_single_value(name, value)


def _where(task: Any, *, offline: bool) -> str:
    if not offline:
        return str(task.get_output_log_web_page())
    return f"{task.get_offline_mode_folder()}.zip (offline; send it with clearml's Task.import_offline_session)"


def _check_key() -> None:
    """Without one ClearML would refuse in many lines."""
    config = Path(os.environ.get("CLEARML_CONFIG_FILE") or Path.home() / "clearml.conf")
    if not (os.environ.get("CLEARML_API_ACCESS_KEY") and os.environ.get("CLEARML_API_SECRET_KEY")) and (
        not config.is_file()
    ):
        raise Unauthenticated(
            "there are no credentials; set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and "
            "CLEARML_API_SECRET_KEY, or run `clearml-init`, or use mode=offline."
        )
