"""MLflow. Options: url (of the tracking server or store), project (the experiment), name.

Without a url: MLFLOW_TRACKING_URI, else one store of files, `mlruns` in the folder that holds
all outputs. Credentials are those of MLflow itself (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD,
MLFLOW_TRACKING_TOKEN).
"""

import os
import time
from pathlib import Path
from typing import Any

from evalmesh.adapters.exporters.job import Job, check_answers, need, shown_url

_MOST_METRICS = 1000
_MOST_PARAMS = 100
"""Per request, by MLflow's REST API."""


def send(job: Job) -> str:
    """See `export`."""
    need("mlflow", job.sink)
    entities = need("mlflow.entities", job.sink)
    uri = _uri(job)
    if uri.startswith("file:"):
        # Newer releases ask to be told that files are meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = need("mlflow.tracking", job.sink).MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(job.project)
    experiment = found.experiment_id if found else client.create_experiment(job.project)
    run = client.create_run(
        experiment, run_name=job.run_name, tags={"mlflow.source.name": f"evalmesh {job.record.command}"}
    )
    number = run.info.run_id
    try:
        _log(client, entities, number, job)
        for path in job.files:
            client.log_artifact(number, str(path))
    except BaseException:
        client.set_terminated(number, "FAILED")
        raise
    client.set_terminated(number)
    return f"{shown_url(uri)} experiment {job.project}, run {job.run_name} ({number})"


def check(job: Job) -> None:
    """See `exporting.check`."""
    need("mlflow", job.sink)
    if (uri := _uri(job)).startswith(("http://", "https://")):
        check_answers(uri)


def _uri(job: Job) -> str:
    """Of all load tests of a work directory the same: a store compares what is in it."""
    local = Path(job.option("store") or job.folder.absolute().parent) / "mlruns"
    return job.option("url") or os.environ.get("MLFLOW_TRACKING_URI") or local.absolute().as_uri()


def _log(client: Any, entities: Any, number: str, job: Job) -> None:
    params = [entities.Param(name, str(value)) for name, value in job.record.parameters.items()]
    for at in range(0, len(params), _MOST_PARAMS):
        client.log_batch(number, params=params[at : at + _MOST_PARAMS])
    metrics = []
    for level in job.record.steps:
        time_ms = int((level.time_s or time.time()) * 1000)
        for name, value in level.figures.items():
            metrics.append(entities.Metric(f"level/{name}", value, time_ms, level.step))
    now_ms = int(time.time() * 1000)
    metrics += [entities.Metric(name, value, now_ms, 0) for name, value in job.record.summary.items()]
    for at in range(0, len(metrics), _MOST_METRICS):
        client.log_batch(number, metrics=metrics[at : at + _MOST_METRICS])
