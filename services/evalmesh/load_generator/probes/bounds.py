"""Whether a load stays within what a connection allows."""

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadLevel, LoadTestSpec


def check_bound(spec: LoadTestSpec, most: int) -> None:
    """Raises `InvalidInput` for a load of which more than `most` requests could be in flight; 0: all may be."""
    if not most:
        return
    if spec.search is not None and spec.search.variable == "parallel":
        # Its probes set what is in flight; the level is only their template.
        _check("search.high", spec.search.high, most, spec.target.connection)
        return
    closed = spec.arrival.kind == "closed"
    for place, level in enumerate(spec.levels):
        _check(f"levels[{place}].parallel", _at_once(level, closed=closed), most, spec.target.connection)


def _at_once(level: LoadLevel, *, closed: bool) -> float:
    if closed and level.stages:
        return max(max(stage.start, stage.end) for stage in level.stages)
    return level.parallel


def _check(field: str, asked: float, most: int, connection: str) -> None:
    if 0 < asked <= most:
        return
    given = f"{asked:g}" if asked else "no bound"
    raise InvalidInput(
        f"{field}: connection {connection!r} takes at most {most} requests at once, and this asks for {given}; give a "
        f"number up to {most}.",
        {"field": field},
    )
