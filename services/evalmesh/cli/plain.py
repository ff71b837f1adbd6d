"""Specs and configs as plain values, for YAML."""

import dataclasses
from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses as mappings for YAML, without what is not set."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, plain(getattr(value, field.name))) for field in dataclasses.fields(value))
        return {name: item for name, item in items if item not in (None, "", [], {}) and item is not False}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
