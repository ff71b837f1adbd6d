"""Weights & Biases. Options: project, name, entity, mode (online, offline), url (of a server of your own), api_key.

The key comes from WANDB_API_KEY or `wandb login`. What wandb would note about the process (its arguments, the git
repository, packages, the machine's load) is switched off: it is about this program, not about the server under load,
and arguments may hold keys.
"""

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalmesh.adapters.exporters.job import Job, check_answers, need
from evalmesh.domain.errors import Unauthenticated

_CLOUD = "https://api.wandb.ai"


def send(job: Job) -> str:
    """See `export`."""
    wandb = need("wandb", job.sink)
    mode = job.option("mode") or os.environ.get("WANDB_MODE") or "online"
    _check_key(job, mode)
    run = wandb.init(
        project=job.project,
        entity=job.option("entity") or None,
        name=job.run_name,
        dir=str(job.folder.absolute()),
        config=job.record.parameters,
        job_type=job.record.kind,
        mode=mode,
        settings=_settings(wandb, job),
    )
    try:
        run.define_metric("level/*", summary="none")
        for level in job.record.steps:
            run.log({f"level/{name}": value for name, value in level.figures.items()}, step=level.step)
        run.summary.update(job.record.summary)
        if job.files:
            artifact = wandb.Artifact(f"{job.record.kind.replace(' ', '-')}-{job.record.id}", type=job.record.kind)
            for path in job.files:
                artifact.add_file(str(path))
            run.log_artifact(artifact)
        folder = Path(run.dir).parent
        where = run.url if mode == "online" else f"{folder} ({mode}; send it with: wandb sync {folder})"
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
    return str(where)


def check(job: Job) -> None:
    """See `exporting.check`."""
    need("wandb", job.sink)
    mode = job.option("mode") or os.environ.get("WANDB_MODE") or "online"
    _check_key(job, mode)
    if mode == "online":
        check_answers(job.option("url") or os.environ.get("WANDB_BASE_URL") or _CLOUD)


def _settings(wandb: Any, job: Job) -> Any:
    wanted = {
        "api_key": job.option("api_key") or None,
        "base_url": job.option("url") or None,
        "console": "off",
        "silent": True,
        "save_code": False,
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
    }
    known = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in wanted.items() if value is not None and name in known})


def _check_key(job: Job, mode: str) -> None:
    """Without a key wandb would ask for one on the terminal, in the middle of somebody's script."""
    if mode in {"offline", "disabled"} or job.option("api_key") or os.environ.get("WANDB_API_KEY"):
        return
    host = urlsplit(job.option("url") or os.environ.get("WANDB_BASE_URL") or _CLOUD).hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        known = None
    if known is None:
        raise Unauthenticated(
            f"there is no key for {host}; set WANDB_API_KEY or run `wandb login`, or use mode=offline."
        )
