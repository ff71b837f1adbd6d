"""Time, so that tests can turn it."""

from collections.abc import Mapping
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


def with_keys(headers: Mapping[str, str], key_ref: str, keys: Secrets) -> dict[str, str]:
    """Headers as they are sent: references among their values resolved, and the key behind `key_ref` as a bearer.

    Raises `NotFound` for a reference that leads nowhere.
    """
    found = {
        name: keys.resolve(value) if value.startswith(("env:", "secret:")) else value for name, value in headers.items()
    }
    key = keys.resolve(key_ref)
    return {**found, "Authorization": f"Bearer {key}"} if key else found
