"""Values as people type them: `k=v,k=v` or JSON, counts and fractions, YAML and JSON files."""

import json
import re
import sys
from pathlib import Path
from typing import Any, cast

import yaml

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.free_values import check_bounds, parse_json

_NEXT_OPTION = re.compile(r",(?=\s*[A-Za-z_][\w.-]*=)")
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def parse_options(text: str, field: str, *, texts: bool = False) -> dict[str, Any]:
    """`temperature=0,stop=["a","b"]` or `{"temperature": 0}`. Values are JSON where they can be, else text.

    With `texts` what stands behind an equals sign is text whatever it looks like.

    Raises `InvalidInput`.
    """
    stripped = text.strip()
    if not stripped:
        return {}
    if stripped.startswith("{"):
        try:
            value = parse_json(stripped)
        except ValueError as error:
            raise InvalidInput(
                f"{field}: this is no JSON ({error}); quote it for the shell like '{{\"key\": 1}}', or "
                f"write key=value.",
                {"field": field},
            ) from None
        check_bounds(value, field)
        return cast("dict[str, Any]", value)
    options: dict[str, Any] = {}
    for part in _NEXT_OPTION.split(stripped):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InvalidInput(
                f"{field}: {_short(part)} is no key=value; write key=value,key=value, or JSON.", {"field": field}
            )
        options[key.strip()] = value.strip() if texts else _value(value.strip(), field)
    check_bounds(options, field)
    return options


class _Loader(yaml.SafeLoader):
    """A key that is written twice is a mistake: one of its values would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value[:80]!r} is there a second time"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _value(text: str, field: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise InvalidInput(f"{field}: {_short(text)} is nested too deeply; simplify it.", {"field": field}) from None


def from_file(text: str, field: str) -> str:
    """The text itself, or with `@PATH` what that file holds."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:]).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InvalidInput(f"{field}: {str(path)!r} cannot be read: {why}.", {"field": field}) from None


def read_config_file(name: str) -> dict[str, Any]:
    """A YAML or JSON file that holds one mapping; `-` is standard input.

    Raises `InvalidInput`, with line and column where it can.
    """
    path = Path(name).expanduser()
    try:
        text = sys.stdin.read() if name == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InvalidInput(f"config: {str(path)!r} cannot be read: {why}.", {"field": "config"}) from None
    try:
        # Every JSON document is YAML too; its own parser gives better messages.
        is_json = path.suffix.lower() == ".json" or (name == "-" and text.lstrip().startswith("{"))
        value = parse_json(text) if is_json else yaml.load(text, _Loader)  # noqa: S506  (it is a safe one)
    except (ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "it"
        problem = getattr(error, "problem", None) or (error.msg if isinstance(error, json.JSONDecodeError) else "")
        raise InvalidInput(
            f"config: {str(path)!r} is no valid YAML or JSON; look at {where} ({problem or error}).",
            {"field": "config"},
        ) from None
    except RecursionError:
        raise InvalidInput(f"config: {str(path)!r} is nested too deeply; simplify it.", {"field": "config"}) from None
    check_bounds(value, "config")
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidInput(
            f"config: {str(path)!r} does not hold a mapping of keys to values; write e.g. `model: my-model`.",
            {"field": "config"},
        )
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
