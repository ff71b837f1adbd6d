"""What Python's `help` shows of the configs: their fields, a line each, and nothing of what they are built with."""

import textwrap
from collections.abc import Iterable, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from evalmesh.cli.parser import Flag

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

_WIDTH = 110


class Documented(ModelMetaclass):
    """Of classes whose `help` is their docstring, which has the fields: what `dir` names is listed below it."""

    def __dir__(self) -> list[str]:
        return ["of"]


def document(config: type[BaseModel], options: Iterable[type]) -> None:
    """Gives a config the signature and the docstring that its options, said once, make."""
    hints = {name: hint for one in options for name, hint in one.__annotations__.items()}
    fields = {name: config.model_fields[name] for name in hints}
    config.__signature__ = Signature(
        [Parameter(name, Parameter.KEYWORD_ONLY, default=_default(field)) for name, field in fields.items()]
    )
    config.__doc__ = f"{(config.__doc__ or '').rstrip()}\n\n{''.join(_lines(fields, hints))}"


def _lines(fields: Mapping[str, FieldInfo], hints: Mapping[str, Any]) -> Iterable[str]:
    for name, field in fields.items():
        flag = next((one for one in getattr(hints[name], "__metadata__", ()) if isinstance(one, Flag)), None)
        usual = _default(field)
        text = (flag.help if flag else "").replace("%%", "%")
        if usual not in (None, "", [], {}, False) and "default" not in text:
            text += f" (default: {usual!r})"
        yield textwrap.shorten(f"{name}: {text}", _WIDTH, placeholder=" ...").join(("    ", "\n"))


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)
