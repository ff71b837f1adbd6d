"""Prometheus, by remote write: one sample per figure and level, at the time its level ended. Needs no package.

Remote write and not a Pushgateway: a Pushgateway keeps one value per series and stamps it when it is scraped, so the
levels of a load test would overwrite each other. Receivers are Prometheus (`--web.enable-remote-write-receiver`),
Mimir, Thanos, VictoriaMetrics and Grafana Cloud. Option: url (required), with user and password in it where there are
such; a bearer token comes from EVALMESH_REMOTE_WRITE_TOKEN. Option `project` becomes the label `job`.
"""

import os
import re
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from evalmesh.adapters.exporters.figures import dimensions
from evalmesh.adapters.exporters.job import Job, shown_url
from evalmesh.adapters.exporters.remote_write import snappy_stored, write_request
from evalmesh.domain.errors import InvalidInput, Unauthenticated, Unavailable

_TOKEN = "EVALMESH_REMOTE_WRITE_TOKEN"  # noqa: S105 - the name of a variable
_TIMEOUT_S = 30.0
_REFUSALS = frozenset({401, 403, 404, 405, 502, 503, 504})
"""Statuses that say that no load test would be taken; others may be about a request without samples."""


def send(job: Job) -> str:
    """See `export`."""
    series = list(_series(job))
    shown = _post(job, snappy_stored(write_request(series)))
    return f"{shown} ({len(series)} series of {len(job.record.steps)} levels)"


def check(job: Job) -> None:
    """See `exporting.check`. A request without any sample tells whether the receiver takes our key."""
    _post(job, snappy_stored(write_request([])), probing=True)


def _post(job: Job, body: bytes, *, probing: bool = False) -> str:
    """Sends; returns the address as it may be shown. `probing`: only a word about key or path is a refusal."""
    parts = urlsplit(job.option("url"))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(
            "the option url must be the address of a remote write receiver, as in "
            "url=http://127.0.0.1:9090/api/v1/write.",
            {"field": "export_args"},
        )
    shown = shown_url(parts.geturl())
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        data=body,
        headers=_headers(parts),
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - likewise
            answer.read()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace").strip()
        if probing and error.code not in _REFUSALS:
            return shown
        wrong = Unauthenticated if error.code in {401, 403} else Unavailable
        raise wrong(f"{shown} answers with status {error.code}: {said}") from None
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Unavailable(f"{shown} cannot be reached: {reason}.") from None
    return shown


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "User-Agent": "evalmesh",
    }
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    elif token := os.environ.get(_TOKEN):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _series(job: Job) -> Iterator[tuple[Mapping[str, str], float, int]]:
    now_s = time.time()
    common = {
        "job": job.project,
        job.record.kind.replace(" ", "_"): job.record.id,
        "run": job.run_name,
        "model": job.record.model,
    }
    for level in job.record.steps:
        time_ms = int((level.time_s or now_s) * 1000)
        for path, value in level.figures.items():
            name, labels = dimensions(path)
            named = {"__name__": _name(f"level_{name}"), "level": str(level.step), "load": level.label}
            yield {**common, **labels, **named}, value, time_ms
    for path, value in job.record.summary.items():
        yield {**common, "__name__": _name(path)}, value, int(now_s * 1000)


def _name(path: str) -> str:
    return "evalmesh_" + re.sub(r"[^a-zA-Z0-9_]", "_", path)
