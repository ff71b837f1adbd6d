"""Time, so that tests can turn it."""

from typing import Protocol


class Clock(Protocol):
    """Wall time and ids made of it."""

    def now(self) -> float:
        """Unix seconds."""
        ...


class Secrets(Protocol):
    """Keys by reference."""

    def resolve(self, ref: str) -> str:
        """The key behind `env:NAME` or `secret:name/key`; empty for an empty reference. Raises `NotFound`."""
        ...
