"""SwanLab. Options: project, name, workspace, mode (online, local, offline), url (of a server of your own), api_key.

The key comes from SWANLAB_API_KEY or `swanlab login`. What SwanLab would note about the process and its machine is
switched off, as with wandb. Its releases need protobuf below 7: give them an environment of their own and the option
`python`.
"""

import os
from pathlib import Path
from typing import Any

from evalmesh.adapters.exporters.job import Job, check_answers, need
from evalmesh.domain.errors import FailedPrecondition, Unauthenticated

_LOGIN = ".swanlab/.netrc"


def send(job: Job) -> str:
    """See `export`."""
    swanlab, mode = _ready(job)
    folder = job.folder.absolute() / "swanlog"
    folder.mkdir(parents=True, exist_ok=True)
    run = swanlab.init(
        project=job.project,
        workspace=job.option("workspace") or None,
        name=job.run_name,
        description=f"evalmesh {job.record.kind} {job.record.id}",
        config=job.record.parameters,
        mode=mode,
        log_dir=str(folder),
        reinit=True,
        settings=_settings(swanlab, job),
    )
    try:
        for level in job.record.steps:
            swanlab.log({f"level/{name}": value for name, value in level.figures.items()}, step=level.step)
        swanlab.log({f"summary/{name}": value for name, value in job.record.summary.items()}, step=0)
        for path in job.files:
            swanlab.save(str(path), base_path=str(job.folder))
        where = run.url if mode == "online" else f"{folder} ({mode}; see it with: swanlab watch {folder})"
    except BaseException:
        swanlab.finish(state="crashed", error="the export failed")
        raise
    swanlab.finish()
    return str(where)


def check(job: Job) -> None:
    """See `exporting.check`."""
    _, mode = _ready(job)
    host = job.option("url") or os.environ.get("SWANLAB_HOST")
    if host and mode == "online":
        check_answers(host)


def _ready(job: Job) -> tuple[Any, str]:
    """The package and the mode, for which there is a key."""
    swanlab = need("swanlab", job.sink)
    if not hasattr(swanlab, "Settings") or "probe" not in swanlab.Settings.model_fields:
        raise FailedPrecondition("this release is too old; pip install 'swanlab>=0.10'.")
    mode = job.option("mode") or os.environ.get("SWANLAB_MODE") or "online"
    _check_key(job, mode)
    return swanlab, mode


def _settings(swanlab: Any, job: Job) -> Any:
    off = dict.fromkeys(("hardware", "runtime", "requirements", "conda", "git", "monitor"), False)
    wanted: dict[str, Any] = {"interactive": False, "probe": off, "terminal": {"proxy_type": "none"}}
    if job.option("api_key"):
        wanted["api_key"] = job.option("api_key")
    if host := job.option("url") or os.environ.get("SWANLAB_HOST"):
        wanted["api_host"] = wanted["web_host"] = host.rstrip("/")
    return swanlab.Settings(**wanted)


def _check_key(job: Job, mode: str) -> None:
    """Without a key SwanLab would ask for one on the terminal."""
    if mode != "online" or job.option("api_key") or os.environ.get("SWANLAB_API_KEY"):
        return
    home = os.environ.get("SWANLAB_SAVE_DIR")
    login = Path(home) / ".netrc" if home else Path.home() / _LOGIN
    if not login.is_file():
        raise Unauthenticated(
            "there is no key; set SWANLAB_API_KEY or run `swanlab login`, or use mode=local or mode=offline."
        )
