"""What became of each planned request. Nothing leaves the plan in silence."""

from dataclasses import dataclass
from typing import Any

from evalmesh.domain.errors import InternalError
from evalmesh.load.measure.distributions import number
from evalmesh.load.measure.inputs import LevelInputs
from evalmesh.load.measure.records import Outcome
from evalmesh.load.measure.table import Rows, by_class, is_ok, is_warmup, was_sent

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a whole level, warm-up left out: `planned = sent + unsent + skipped + lost`, `sent = ok + errors`."""

    planned: int
    sent: int
    ok: int
    errors: dict[str, int]
    unsent: int
    skipped: int
    lost: int


def count(inputs: LevelInputs, records: Rows) -> Counts:
    """Counts that add up to the plan; raises `InternalError` when they cannot be made to."""
    figures = records.where(~is_warmup(records))
    errors = by_class(figures)
    ok = int(is_ok(figures).sum())
    sent = int(was_sent(figures).sum())
    unsent = int((figures["outcome"] == Outcome.UNSENT).sum())
    skipped = int((figures["outcome"] == Outcome.SKIPPED).sum())
    lost = _lost(inputs, records, len(figures))
    planned = inputs.planned or len(figures) + lost
    if planned > len(figures) + lost and _may_end_early(inputs):
        # What was never prepared has no record.
        unsent += planned - len(figures) - lost
    if sent != ok + sum(errors.values()) or planned != sent + unsent + skipped + lost:
        raise InternalError(
            f"The counts of level {inputs.index} do not add up: {planned} planned, {sent} sent ({ok} ok, "
            f"{sum(errors.values())} failed), {unsent} unsent, {skipped} skipped, {lost} lost."
        )
    return Counts(planned, sent, ok, errors, unsent, skipped, lost)


def _may_end_early(inputs: LevelInputs) -> bool:
    """Whether something but its number ended the level: time, a wish, the end of a trace, a feeder that failed."""
    bounded = inputs.level.duration_s > 0 or bool(inputs.level.stages) or inputs.arrival == "trace"
    return bounded or inputs.state != "done" or any(one.error for one in inputs.generators)


def _lost(inputs: LevelInputs, records: Rows, known: int) -> int:
    """Requests of generators whose records did not arrive; without a plan, those they said they had sent."""
    seats = {one.seat for one in inputs.generators if one.lost}
    if inputs.planned:
        return max(0, inputs.planned - known) if seats else 0
    told = sum(second.sent for second in inputs.seconds if second.generator in seats)
    kept = sum(int((records["generator"] == seat).sum()) for seat in seats)
    return max(0, told - kept)


def warmup_document(records: Rows) -> dict[str, Any]:
    """`warmup` of a level's document."""
    warm = records.where(is_warmup(records))
    return {"requests": int(was_sent(warm).sum()), "ok": int(is_ok(warm).sum()), "errors": by_class(warm)}


def examples_document(inputs: LevelInputs, records: Rows) -> list[dict[str, Any]]:
    """`error_examples` of a level's document: the first few requests of each class."""
    figures = records.where(~is_warmup(records))
    failed = figures.where(was_sent(figures) & ~is_ok(figures))
    told = []
    for name, number_of in by_class(figures).items():
        told.append(
            {
                "class": name,
                "count": number_of,
                "message": inputs.error_messages.get(name, ""),
                "examples": _examples(_of_class(failed, name).first(EXAMPLES)),
            }
        )
    return told


def _of_class(failed: Rows, name: str) -> Rows:
    if name.startswith("http_"):
        chosen = (failed["outcome"] == Outcome.HTTP) & (failed["status"] == int(name.removeprefix("http_")))
    else:
        chosen = failed["outcome"] == Outcome[name.upper()]
    return failed.where(chosen)


def _examples(chosen: Rows) -> list[dict[str, Any]]:
    return [
        {
            "index": int(chosen["index"][row]),
            "turn": int(chosen["turn"][row]),
            "generator": int(chosen["generator"][row]),
            "send_s": number(chosen["send_s"][row]),
            "after_ms": number((chosen["end_s"][row] - chosen["send_s"][row]) * 1000),
            "status": int(chosen["status"][row]),
            "output_tokens": int(chosen["output_tokens"][row]),
        }
        for row in range(len(chosen))
    ]
