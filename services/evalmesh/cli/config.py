"""What both configs have in common: values in every form people write them, and errors as sentences."""

import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import Path, PurePath
from types import UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from evalmesh.cli.config_help import Documented
from evalmesh.cli.defaults import Layer, layers, merged
from evalmesh.cli.headers import headers_of
from evalmesh.cli.options import parse_options, read_config_file
from evalmesh.cli.parser import Flag, is_duration
from evalmesh.domain.errors import InvalidInput

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WAYS_OUT = {
    "int_parsing": "write a whole number.",
    "int_type": "write a whole number.",
    "int_from_float": "write a whole number.",
    "float_parsing": "write a number.",
    "float_type": "write a number.",
    "bool_parsing": "write true or false.",
    "bool_type": "write true or false.",
    "string_type": "write text.",
    "list_type": "write a list.",
    "dict_type": "write a mapping.",
}


class Config(BaseModel, metaclass=Documented):
    """A config whose wrong values raise `InvalidInput` that names field, value and way out."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    section: ClassVar[str]
    """Of the files that a project and a user have for their options."""
    withheld: ClassVar[frozenset[str]] = frozenset({"api_key"})
    """Fields whose values no message repeats."""
    paths: ClassVar[frozenset[str]] = frozenset()
    """Fields that name files: in a file of options they are relative to it, as flags are to the shell's folder."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _first_problem(error, self.withheld) from None

    @field_validator("*", mode="before")
    @classmethod
    def _as_declared(cls, value: Any, info: Any) -> Any:
        """`k=v,k=v`, JSON and a list of `k=v` are mappings; one value is a list of one; a path is its text."""
        value = _without_paths(value)
        name: str = info.field_name
        kind, optional = _kind(cls.model_fields[name].annotation)
        if get_origin(kind) is dict:
            return _mapping(value, name, texts=get_args(kind)[1] is str)
        if isinstance(value, bool) and kind in {int, float}:
            raise InvalidInput(
                f"{info.field_name}: {value} is not allowed; write a number.", {"field": info.field_name}
            )
        flag = next((one for one in cls.model_fields[name].metadata if isinstance(one, Flag)), None)
        if flag is not None and is_duration(flag) and isinstance(value, str):
            return parse_seconds(value, name)
        if get_origin(kind) is not list or (value is None and optional):
            return value
        given = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
        if (flag is not None and flag.commas) or get_args(kind)[0] in {int, float} or get_origin(get_args(kind)[0]):
            given = [part for one in given for part in (_parts(one) if isinstance(one, str) else (one,))]
        if flag is not None and isinstance(flag.metavar, tuple) and flag.metavar[-1] == "S" and given:
            given[-1] = parse_seconds(given[-1], name) if isinstance(given[-1], str) else given[-1]
        return given

    @classmethod
    def load(cls, file: str | None, said: Mapping[str, Any]) -> Self:
        """What was said on the command line over what the file says; without one, over the project's and the user's."""
        found = [Layer(Path(file), read_config_file(file))] if file else layers(cls.section, cls.model_fields)
        if file != "-" and not said.get("server"):
            found = [layer if layer.values.get("server") else cls._beside(layer) for layer in found]
        return cls.merged(merged(found), said)

    @classmethod
    def _beside(cls, layer: Layer) -> Layer:
        return Layer(layer.path, cls.beside(layer.values, layer.path.expanduser().absolute().parent))

    @classmethod
    def beside(cls, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The keys of a file with its paths as seen from its folder."""
        return placed(values, folder, cls.paths)

    @classmethod
    def of(cls, source: "Self | Mapping[str, Any] | str | Path") -> Self:
        """A checked config from every form Python callers have: one of these, its keys, or a file with them."""
        if isinstance(source, cls):
            # Where it may have been changed since it was made.
            return source if cls.model_config.get("frozen") else cls(**dict(source))
        if isinstance(source, Mapping):
            return cls(**source)
        if isinstance(source, (str, Path)):
            return cls.load(str(source), {})
        raise InvalidInput(
            f"config: a {type(source).__name__} is no config; pass a {cls.__name__}, a mapping, or the path of a YAML "
            f"or JSON file.",
            {"field": "config"},
        )

    @classmethod
    def merged(cls, base: Mapping[str, Any], top: Mapping[str, Any]) -> Self:
        """`top` over `base`; mappings of both are merged key by key. Both may still be text."""
        values = {**base, **top}
        for name, field in cls.model_fields.items():
            if name in base and name in top and get_origin(_kind(field.annotation)[0]) is dict:
                values[name] = {**getattr(cls(**{name: base[name]}), name), **getattr(cls(**{name: top[name]}), name)}
        return cls(**values)


def placed(values: Mapping[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The mapping with those of its values that are paths as seen from a folder."""
    found = dict(values)
    for name in names:
        if isinstance(found.get(name), str) and found[name]:
            found[name] = str(folder / Path(found[name]).expanduser())
    return found


def _without_paths(value: Any) -> Any:
    """The value with the text of each path in it, as `pathlib` and pytest's `tmp_path` make them."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    return [_without_paths(one) for one in value] if isinstance(value, list) else value


NO_TEXT = "is no text but a number, date, time or truth; put it in quotes to mean the text."


def as_unquoted(value: Any) -> str:
    """What YAML made of a word without quotes, as one reads it; empty for what it makes of anything else.

    `12:30` is 750 there, `yes` is True, and `1.10` is 1.1: only who wrote it knows the text.
    """
    return str(value)[:80] if isinstance(value, (int, float, date, time)) else ""


def parse_seconds(text: str, field: str) -> float:
    """`2`, `2s`, `500ms`, `1.5m`, `1h` in seconds. Raises `InvalidInput`."""
    found = _DURATION.fullmatch(text.strip())
    try:
        return float(found[1]) * _SECONDS[found[2]] if found else float(text)
    except ValueError:
        raise InvalidInput(
            f"{field}: {text[:80]!r} is not allowed; write seconds, or a number with ms, s, m or h, like 30s.",
            {"field": field},
        ) from None


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] or [text]


def _kind(annotation: Any) -> tuple[Any, bool]:
    """(type, whether it may be `None`)."""
    if get_origin(annotation) not in {UnionType, Union}:
        return annotation, False
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    return (kinds[0] if len(kinds) == 1 else None), len(kinds) < len(get_args(annotation))


def _mapping(value: Any, name: str, *, texts: bool) -> Any:
    if isinstance(value, list):
        # Each word of a flag that may be repeated.
        found: dict[str, Any] = {}
        for part in value:
            if not isinstance(part, str):
                raise InvalidInput(f"{name}: the value (withheld) is not allowed; write NAME=VALUE.", {"field": name})
            found |= _mapping(part, name, texts=texts)
        return found
    if isinstance(value, str) and name == "headers" and not value.startswith("{"):
        return headers_of([value], name)
    if isinstance(value, str):
        return parse_options(value, name, texts=texts)
    return {} if value is None else value


def _first_problem(error: ValidationError, withheld: frozenset[str]) -> InvalidInput:
    """The first problem, as a sentence; pydantic's own text may repeat a secret and speaks of types."""
    problem = error.errors(include_url=False, include_context=True)[0]
    # `limit: int | float` reports each member of the union under its own name; of a list, the value says which.
    path = [part for part in problem["loc"] if isinstance(part, str) and part not in {"int", "float"}]
    field = ".".join(path) or "config"
    value = "the value (withheld)" if withheld.intersection(path[:1]) else repr(problem["input"])[:80]
    if problem["type"] == "string_type" and (unquoted := as_unquoted(problem["input"])):
        return InvalidInput(f"{field}: {value if 'withheld' in value else unquoted} {NO_TEXT}", {"field": field})
    way_out = _WAYS_OUT.get(problem["type"]) or f"{problem['msg'][:1].lower()}{problem['msg'][1:]}."
    return InvalidInput(f"{field}: {value} is not allowed; {way_out}", {"field": field})
