"""What the record of a load test keeps of a level's document."""

from collections.abc import Mapping
from typing import Any

from evalmesh.domain.load_test import LevelState, LevelStatus
from evalmesh.load_generator.conductor.level_run import LevelRun

_STATES: Mapping[str, LevelState] = {"done": "done", "cancelled": "cancelled", "failed": "failed"}


def status_of(document: Mapping[str, Any], run: LevelRun) -> LevelStatus:
    """The headline of a level, for lists and watches."""

    def at(metric: str, statistic: str) -> float | None:
        summary = document.get(metric)
        return summary.get(statistic) if summary else None

    goodput, slo = document.get("goodput"), document.get("slo")
    return LevelStatus(
        index=run.order.number,
        level=run.order.planned.level,
        repeat=run.order.planned.repeat,
        state=_STATES.get(document["state"], "failed"),
        planned=document["planned"],
        sent=document["sent"],
        ok=document["ok"],
        errors=document["errors"],
        request_rate=document["request_rate"],
        output_token_rate=document["output_token_rate"],
        ttft_p50_ms=at("ttft_ms", "p50"),
        ttft_p99_ms=at("ttft_ms", "p99"),
        itl_p50_ms=at("itl_ms", "p50"),
        e2e_p99_ms=at("e2e_ms", "p99"),
        goodput_rate=goodput["rate"] if goodput else None,
        meets_slo=slo["met"] if slo else None,
        client_limited=document["client_limited"],
        start_time=run.start_time,
        end_time=run.start_time + (document["wall_s"] or 0.0),
        note=" ".join(document["notes"]),
    )
