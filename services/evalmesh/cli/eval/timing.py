"""How long a run may take, by the times of answers in an earlier run of the same model."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmesh.cli.live import clock_text
from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.run import RunSpec
from evalmesh.results.json_values import public_url

_MOST_LOOKED_AT = 100
"""Reports, the newest first: a folder may hold thousands."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What an earlier run says of one benchmark."""

    folder: str
    mean_s: float
    """Of one answer, whatever the prompt asked for."""
    concurrency: int


def time_lines(spec: RunSpec, estimates: Sequence[BenchmarkEstimate], work_dir: Path) -> Iterator[str]:
    """An estimate and what it rests on, or that there is none."""
    known = _earlier(spec, work_dir)
    asked = [one for one in estimates if one.benchmark in known and one.n_requests]
    unknown = [one.benchmark for one in estimates if one.benchmark not in known]
    if not asked:
        yield f"  time: cannot be known; {str(work_dir)!r} holds no run of this model on these benchmarks to go by"
        return
    # All benchmarks share the requests in flight; the last answer takes as long as an answer takes.
    total_s = sum(one.n_requests * known[one.benchmark].mean_s for one in asked)
    longest_s = max(known[one.benchmark].mean_s for one in asked)
    seconds = max(total_s / spec.model.concurrency, longest_s)
    yield (
        f"  time: about {clock_text(math.ceil(seconds))} with {spec.model.concurrency} requests in flight, if "
        "answers take as long as before:"
    )
    for one in asked:
        found = known[one.benchmark]
        yield f"    {one.benchmark}: {found.mean_s:.3g} s each with {found.concurrency} in flight, in {found.folder}"
    if unknown:
        yield f"    not counted, since no run here has asked them: {', '.join(unknown)}"


def _earlier(spec: RunSpec, work_dir: Path) -> dict[str, _Known]:
    wanted, found = {one.name for one in spec.benchmarks}, dict[str, _Known]()
    files = sorted(work_dir.glob("*/report.json"), key=lambda path: path.parent.name, reverse=True)
    for path in files[:_MOST_LOOKED_AT]:
        try:
            report = json.loads(path.read_bytes())
            for name, one in _of_report(report, spec, path.parent.name):
                if name in wanted:
                    found.setdefault(name, one)
        except (OSError, ValueError, LookupError, TypeError):
            continue  # no report of ours: it tells nothing
        if len(found) == len(wanted):
            break
    return found


def _of_report(report: Mapping[str, Any], spec: RunSpec, folder: str) -> Iterator[tuple[str, _Known]]:
    model = report["model"]
    # A simulated model takes whatever port is free.
    simulated = model["simulated"] and spec.labels.get("simulated") == "true"
    if model["name"] != spec.model.name or not (simulated or model["url"] == public_url(spec.model.url)):
        return
    for one in report["benchmarks"]:
        if mean_s := (one.get("usage") or {}).get("latency_mean_s"):
            yield one["name"], _Known(folder, float(mean_s), int(report["config"]["concurrency"]))
