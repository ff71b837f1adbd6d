"""`TaskConfig`: what `evalmesh eval` and `run_task` take."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SecretStr, field_validator, model_validator

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.naming import suggestion
from evalmesh.cli.config import NO_TEXT, Config, as_unquoted, placed
from evalmesh.cli.config_help import document
from evalmesh.cli.connections import default_url
from evalmesh.cli.eval.datasets import read_set, split_names
from evalmesh.cli.eval.engines import runs_here
from evalmesh.cli.eval.keys import EVAL_TYPE_ADVICE, EVAL_TYPES, TASK_ADVICE, sift
from evalmesh.cli.eval.options import TaskOptions
from evalmesh.cli.options import from_file, parse_options
from evalmesh.cli.parser import PlaceOptions
from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.limit import parse_limit


class TaskConfig(TaskOptions, PlaceOptions, Config):
    """One evaluation. Field by field in docs/guides/config.md.

    Wrong values raise `InvalidInput`, keys of EvalScope that this build cannot serve raise `Unimplemented`; both name
    field, value and way out. The object may be changed after it is made; values are checked again when it is used.
    """

    withheld: ClassVar[frozenset[str]] = frozenset({"api_key", "headers"})
    section: ClassVar[str] = "eval"
    paths: ClassVar[frozenset[str]] = frozenset({"dataset_dir", "completions", "ca_file"})

    api_key: SecretStr | None = None

    @classmethod
    def beside(cls, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Own data too are named from the file that names them."""
        found = super().beside(values, folder)
        if isinstance(model := found.get("model"), str) and model and (folder / model).is_dir():
            found["model"] = str(folder / model)
        if isinstance(args := found.get("dataset_args"), Mapping):
            found["dataset_args"] = {
                name: placed(own, folder, ("local_path",)) if isinstance(own, Mapping) else own
                for name, own in args.items()
            }
        sets = found.get("datasets")
        sets = [sets] if isinstance(sets, str) else sets
        if isinstance(sets, list) and all(isinstance(text, str) for text in sets):
            named = [read_set(name) for text in sets for name in split_names(text)]
            found["datasets"] = [
                str(replace(one, local_path=str(folder / one.local_path)) if one.local_path else one) for one in named
            ]
        return found

    def __init__(self, **values: Any) -> None:
        # Type checkers would otherwise take only the fields that are written out here.
        super().__init__(**values)

    @model_validator(mode="before")
    @classmethod
    def _sift(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = sift(values, cls.model_fields, TASK_ADVICE, "")
        elsewhere = any(map(given.get, ("api_url", "demo", "completions", "connection"))) or runs_here(given)
        return given if elsewhere or not default_url() else {**given, "api_url": default_url()}

    @field_validator("datasets", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            return value
        return [_known(name) for text in given for name in split_names(text)]

    @field_validator("system_prompt")
    @classmethod
    def _text(cls, value: str | None) -> str | None:
        return value and from_file(value, "system_prompt")

    @field_validator("price")
    @classmethod
    def _prices(cls, value: list[float]) -> list[float]:
        if value and (len(value) != len(("input", "output")) or not all(0 <= one < inf for one in value)):
            raise InvalidInput(
                f"price: {value} is not allowed; give the prices of a million input and of a million output tokens.",
                {"field": "price"},
            )
        return value

    @field_validator("limit", mode="before")
    @classmethod
    def _limit(cls, value: Any) -> Any:
        return parse_limit(value, "limit")

    @field_validator("model", mode="before")
    @classmethod
    def _no_objects(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        if unquoted := as_unquoted(value):
            raise InvalidInput(f"model: {unquoted} {NO_TEXT}", {"field": "model"})
        raise Unimplemented(
            f"model: a {type(value).__name__} is EvalScope's way to pass a model object and not supported here; serve "
            f"the model behind an OpenAI-compatible endpoint and use api_url.",
            {"field": "model"},
        )

    @field_validator("eval_type")
    @classmethod
    def _eval_type(cls, value: str | None) -> str | None:
        if value is None or value in EVAL_TYPES:
            return value
        way_out = EVAL_TYPE_ADVICE.get(value, f"use one of {', '.join(EVAL_TYPES)}.")
        raise Unimplemented(f"eval_type: {value[:40]!r} is not supported; {way_out}", {"field": "eval_type"})

    @model_validator(mode="after")
    def _fits_together(self) -> "TaskConfig":
        names = [read_set(text).name for text in self.datasets]
        for name in self.dataset_args:
            if names and name not in names:
                raise InvalidInput(
                    f"dataset_args.{name[:80]}: {name[:80]!r} is not among the datasets of this run. "
                    f"{suggestion(name, names)}",
                    {"field": f"dataset_args.{name}"},
                )
        if self.rerun_review and not self.use_cache:
            raise InvalidInput(
                "rerun_review: true needs use_cache, which names the run whose completions are scored again.",
                {"field": "rerun_review"},
            )
        if self.ignore_errors and self.on_error == "fail":
            raise InvalidInput(
                "ignore_errors: true contradicts on_error 'fail'; leave one of them out.", {"field": "ignore_errors"}
            )
        return self


document(TaskConfig, (TaskOptions, PlaceOptions))


def _known(name: str) -> str:
    """`GSM8K` is `gsm8k`, where there is no benchmark that is written so."""
    return name if name == name.lower() or name.lower() not in registry.names() else name.lower()


def args_of_one(dataset: str, text: str) -> dict[str, Any]:
    """`dataset_args` of a command for one benchmark, whose name may be left out of them."""
    given = parse_options(text, "dataset_args")
    name = read_set(dataset).name
    return given if name in given or not given else {name: given}
