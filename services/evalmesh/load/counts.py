"""What became of each planned request. Nothing leaves the plan in silence."""

from dataclasses import dataclass
from typing import Any

from evalmesh.domain.errors import InternalError
from evalmesh.load.inputs import LevelInputs
from evalmesh.load.records import Outcome
from evalmesh.load.samples import number
from evalmesh.load.table import Records, by_class, is_ok, is_warmup, was_sent

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


def count(inputs: LevelInputs) -> Counts:
    """Counts that add up to the plan; raises `InternalError` when they cannot be made to."""
    figures = inputs.records[~is_warmup(inputs.records)]
    errors = by_class(figures)
    ok = int(is_ok(figures).sum())
    sent = int(was_sent(figures).sum())
    unsent = int((figures["outcome"] == Outcome.UNSENT).sum())
    skipped = int((figures["outcome"] == Outcome.SKIPPED).sum())
    lost = _lost(inputs, len(figures))
    planned = inputs.planned or len(figures) + lost
    if sent != ok + sum(errors.values()) or planned != sent + unsent + skipped + lost:
        raise InternalError(
            f"The counts of level {inputs.index} do not add up: {planned} planned, {sent} sent ({ok} ok, "
            f"{sum(errors.values())} failed), {unsent} unsent, {skipped} skipped, {lost} lost."
        )
    return Counts(planned, sent, ok, errors, unsent, skipped, lost)


def _lost(inputs: LevelInputs, known: int) -> int:
    """Requests of generators whose records did not arrive; without a plan, those they said they had sent."""
    seats = {one.seat for one in inputs.generators if one.lost}
    if inputs.planned:
        missing = inputs.planned - known
        if missing > 0 and not seats and inputs.state == "done":
            raise InternalError(
                f"Level {inputs.index}: {missing} of {inputs.planned} planned requests have no record, "
                "and no generator was lost."
            )
        return max(0, missing)
    told = sum(second.sent for second in inputs.seconds if second.generator in seats)
    kept = sum(int((inputs.records["generator"] == seat).sum()) for seat in seats)
    return max(0, told - kept)


def warmup_document(inputs: LevelInputs) -> dict[str, Any]:
    """`warmup` of a level's document."""
    warm = inputs.records[is_warmup(inputs.records)]
    return {"requests": int(was_sent(warm).sum()), "ok": int(is_ok(warm).sum()), "errors": by_class(warm)}


def examples_document(inputs: LevelInputs) -> list[dict[str, Any]]:
    """`error_examples` of a level's document: the first few requests of each class."""
    figures = inputs.records[~is_warmup(inputs.records)]
    failed = figures[was_sent(figures) & ~is_ok(figures)]
    told = []
    for name, number_of in by_class(figures).items():
        told.append(
            {
                "class": name,
                "count": number_of,
                "message": inputs.error_messages.get(name, ""),
                "examples": [_example(record) for record in _of_class(failed, name)[:EXAMPLES]],
            }
        )
    return told


def _of_class(failed: Records, name: str) -> Records:
    if name.startswith("http_"):
        chosen = (failed["outcome"] == Outcome.HTTP) & (failed["status"] == int(name.removeprefix("http_")))
    else:
        chosen = failed["outcome"] == Outcome[name.upper()]
    of_class: Records = failed[chosen]
    return of_class


def _example(record: Any) -> dict[str, Any]:
    send, end = float(record["send_s"]), float(record["end_s"])
    return {
        "index": int(record["index"]),
        "turn": int(record["turn"]),
        "generator": int(record["generator"]),
        "send_s": number(send),
        "after_ms": number((end - send) * 1000),
        "status": int(record["status"]),
        "output_tokens": int(record["output_tokens"]),
    }
