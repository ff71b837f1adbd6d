"""Which part of a level one generator performs. The schedule needs no sharing: request i belongs to seat i mod n."""

from dataclasses import replace

from evalmesh.domain.load_test import LoadLevel, Stage

_JUST_ABOVE = 1e-9
"""Halves are rounded up."""


def share_of(level: LoadLevel, position: int, of: int) -> LoadLevel:
    """The part of generator `position` of `of`: slots as even as they go, counts as the schedule deals them out."""
    if of == 1:
        return level
    closed = level.rate == 0
    stages = level.stages
    if closed:
        stages = tuple(Stage(s.duration_s, _slots(s.start, position, of), _slots(s.end, position, of)) for s in stages)
    return replace(
        level,
        parallel=_part(level.parallel, position, of),
        rate=level.rate / of,
        number=_part(level.number, position, of),
        stages=stages,
    )


def performers(level: LoadLevel, seats: int) -> int:
    """How many generators a level can use: each needs a slot of its own where slots are counted."""
    return min(seats, level.parallel) if level.parallel else seats


def warmup_count(warmup: float, level: LoadLevel) -> int:
    """Requests that come before those that are measured: a count, or below 1 a share of the level's number."""
    return round(warmup * level.number) if 0 < warmup < 1 else int(warmup)


def _slots(whole: float, position: int, of: int) -> float:
    """What rounds to this generator's slots, so that those of all generators add up whenever `whole` is a number."""
    return (whole + of - 1 - position) / of - 0.5 + _JUST_ABOVE


def _part(whole: int, position: int, of: int) -> int:
    return whole // of + (position < whole % of)
