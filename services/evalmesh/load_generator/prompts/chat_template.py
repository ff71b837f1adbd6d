"""Chat templates, rendered as model servers do: Jinja in a sandbox, with the special tokens in reach."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalmesh.domain.errors import InvalidInput

if TYPE_CHECKING:
    from jinja2 import Template

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FIELD = {"field": "prompts.tokenizer_digest"}


class ChatTemplate:
    """A model's template, compiled."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        """Raises `InvalidInput` when the template is no Jinja."""
        self._template = _compile(source)
        self._special = dict(special)

    def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        """The text the model sees, up to where its answer begins.

        Raises `InvalidInput` with the template's own complaint: roles that do not take turns, no system message.
        """
        try:
            return self._template.render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special,
            )
        except Exception as error:
            raise InvalidInput(
                f"The tokenizer's chat template cannot render the messages: {error}. Send other messages, or use a "
                "tokenizer folder whose template takes them.",
                _FIELD,
            ) from error


def find(folder: Path, config: Mapping[str, Any]) -> ChatTemplate | None:
    """The template of a tokenizer folder: `chat_template.jinja`, `chat_template.json`, or in the configuration."""
    source: Any = config.get("chat_template")
    if (path := folder / "chat_template.jinja").is_file():
        source = path.read_text(encoding="utf-8")
    elif (path := folder / "chat_template.json").is_file():
        source = json.loads(path.read_text(encoding="utf-8")).get("chat_template", source)
    if isinstance(source, list):  # several by name
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default", next(iter(named.values()), None))
    if not isinstance(source, str) or not source:
        return None
    return ChatTemplate(source, _special_tokens(config))


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in _SPECIAL:
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def _compile(source: str) -> "Template":
    # 20 ms that only those pay who have a template.
    from jinja2 import TemplateError, nodes  # noqa: PLC0415
    from jinja2.ext import Extension, loopcontrols  # noqa: PLC0415
    from jinja2.parser import Parser  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    class Generation(Extension):
        """Some templates mark the assistant's part for training; here it is text like any other."""

        tags = {"generation"}  # noqa: RUF012 - the name and form that Jinja asks for

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise InvalidInput(f"The tokenizer's chat template is not valid Jinja: {error}. Repair it.", _FIELD) from error


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    """Jinja's own filter escapes HTML, which no model expects."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
