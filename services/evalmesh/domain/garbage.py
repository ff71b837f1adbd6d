"""What the object store holds that nothing refers to."""

from dataclasses import dataclass

DEFAULT_MIN_AGE_S = 86_400.0
"""Whoever uploads something has so long to submit what refers to it."""


@dataclass(slots=True)
class CollectedGroup:
    """Objects of one kind."""

    kind: str
    objects: int = 0
    """That went, or would go."""
    size_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    note: str = ""
    """Why some stay although nothing may refer to them."""
