"""Plain Python values as protobuf's well-known types."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.free_values import check_bounds

_NANOS = 10**9
_EXACT_INT = 2**53
"""JSON numbers travel as doubles; integers beyond this would change on the way."""


def struct_to_proto(mapping: Mapping[str, Any], field: str) -> struct_pb2.Struct:
    """A free mapping; raises `InvalidInput` naming the path of what JSON cannot carry exactly, or is too much."""
    check_bounds(mapping, field)
    return _struct(mapping, field)


def _struct(mapping: Mapping[str, Any], field: str) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={key: _value(key, value, field) for key, value in mapping.items()})


def _value(key: Any, value: Any, field: str) -> struct_pb2.Value:
    if not isinstance(key, str):
        raise InvalidInput(f"{field}: the key {key!r} is no text; use text keys as JSON does.", {"field": field})
    check_text_encodes(key, field)
    return _to_value(value, f"{field}.{key}")


def _to_value(value: Any, field: str) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, (int, float)):
        if (isinstance(value, int) and abs(value) > _EXACT_INT) or not math.isfinite(value):
            raise InvalidInput(f"{field}: {value} cannot be sent as a JSON number; pass it as text.", {"field": field})
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        check_text_encodes(value, field)
        return struct_pb2.Value(string_value=value)
    if isinstance(value, Mapping):
        return struct_pb2.Value(struct_value=_struct(value, field))
    if isinstance(value, (list, tuple)):
        items = [_to_value(item, f"{field}[{i}]") for i, item in enumerate(value)]
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
    raise InvalidInput(
        f"{field}: a {type(value).__name__} cannot be sent; use text, numbers, booleans, lists and mappings.",
        {"field": field},
    )


def check_text_encodes(text: str, field: str) -> None:
    """Half of a surrogate pair, which JSON and YAML can smuggle in, is no text. Raises `InvalidInput`."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(
                f"{field}: this text holds half of a surrogate pair, which UTF-8 cannot say; repair it.",
                {"field": field},
            ) from None


def struct_from_proto(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The mapping; whole numbers come back as `int`, since a Struct does not tell `1` from `1.0`."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def _from_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= _EXACT_INT else number
    if kind == "struct_value":
        return struct_from_proto(value.struct_value)
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, str(kind))


def _nanos(seconds: float) -> tuple[int, int]:
    return divmod(round(Fraction(seconds) * _NANOS), _NANOS)


def timestamp_to_proto(time: float) -> timestamp_pb2.Timestamp:
    """Unix seconds."""
    seconds, nanos = _nanos(time)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)


def timestamp_from_proto(time: timestamp_pb2.Timestamp) -> float:
    """Unix seconds."""
    return (time.seconds * _NANOS + time.nanos) / _NANOS


def duration_to_proto(duration_s: float) -> duration_pb2.Duration:
    """Seconds, not negative."""
    seconds, nanos = _nanos(duration_s)
    return duration_pb2.Duration(seconds=seconds, nanos=nanos)


def duration_from_proto(duration: duration_pb2.Duration) -> float:
    """Seconds."""
    return (duration.seconds * _NANOS + duration.nanos) / _NANOS


def milliseconds_to_proto(duration_ms: float) -> duration_pb2.Duration:
    """Milliseconds, to the nanosecond."""
    seconds, nanos = divmod(round(Fraction(duration_ms) * (_NANOS // 1000)), _NANOS)
    return duration_pb2.Duration(seconds=seconds, nanos=nanos)


def milliseconds_from_proto(duration: duration_pb2.Duration) -> float:
    """Milliseconds."""
    return (duration.seconds * _NANOS + duration.nanos) / (_NANOS // 1000)


def one_of(value: str, allowed: tuple[str, ...], field: str) -> str:
    """`value` if it is allowed; raises `InvalidInput` naming the choices."""
    if value not in allowed:
        choices = ", ".join(f"`{choice}`" for choice in allowed)
        raise InvalidInput(f"{field}: {value[:100]!r} is not known; use one of {choices}.", {"field": field})
    return value
