"""What `evalmesh eval` and `run_task` take: EvalScope's names, and ours for what EvalScope has not."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from evalmesh.benchmarks.naming import suggestion
from evalmesh.cli.eval.keys import EVAL_TYPE_ADVICE, EVAL_TYPES, TASK_ADVICE, sift
from evalmesh.cli.options import parse_limit, parse_options
from evalmesh.domain.errors import InvalidInput, Unimplemented

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


class TaskConfig(BaseModel):
    """One evaluation. Field by field in docs/guides/config.md.

    Wrong values raise `InvalidInput`, keys of EvalScope that this build cannot serve raise `Unimplemented`; both name
    field, value and way out. The object may be changed after it is made; values are checked again when it is used.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=False, protected_namespaces=())

    # The model and how it is reached.
    model: str | None = None
    model_id: str | None = None
    model_args: dict[str, Any] = Field(default_factory=dict)
    api_url: str | None = None
    api_key: SecretStr | None = None
    connection: str = ""
    eval_type: str | None = None
    request_kind: Literal["chat", "completion"] | None = None

    # What it is asked.
    datasets: list[str] = Field(default_factory=list)
    dataset_args: dict[str, dict[str, Any]] = Field(default_factory=dict)
    dataset_dir: str | None = None
    dataset_hub: Literal["local", "huggingface", "modelscope"] = "modelscope"
    generation_config: dict[str, Any] = Field(default_factory=dict)
    limit: int | float | None = None
    repeats: int = Field(default=1, ge=1)
    seed: int = 42
    completions: str | None = None
    """JSON Lines of completions made elsewhere: they are scored, nothing is generated."""

    # How it is executed.
    eval_batch_size: int | None = Field(default=None, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    stream: bool | None = None
    use_cache: str | None = None
    rerun_review: bool = False
    ignore_errors: bool = False
    on_error: Literal["exclude", "zero", "fail"] = "exclude"
    server: str | None = None
    processes: bool = False
    runners: int = Field(default=1, ge=1, le=64)
    demo: bool = False

    # What is left behind and what is shown.
    work_dir: str = "./outputs"
    no_timestamp: bool = False
    name: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    dry_run: bool = False
    debug: bool = False

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise first_problem(error) from None

    @model_validator(mode="before")
    @classmethod
    def _sift(cls, values: Any) -> Any:
        return sift(values, cls.model_fields, TASK_ADVICE, "") if isinstance(values, Mapping) else values

    @field_validator("model_args", "generation_config", "dataset_args", "labels", mode="before")
    @classmethod
    def _options(cls, value: Any, info: Any) -> Any:
        if value is None:
            return {}
        return parse_options(value, info.field_name) if isinstance(value, str) else value

    @field_validator("datasets", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            return value
        return [name for text in given for name in re.split(r"[,\s]+", text) if name]

    @field_validator("limit", mode="before")
    @classmethod
    def _limit(cls, value: Any) -> Any:
        return parse_limit(value)

    @field_validator("model", mode="before")
    @classmethod
    def _no_objects(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
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
        way_out = EVAL_TYPE_ADVICE.get(value, "this build evaluates OpenAI-compatible endpoints: use openai_api.")
        raise Unimplemented(f"eval_type: {value!r} is not supported; {way_out}", {"field": "eval_type"})

    @model_validator(mode="after")
    def _fits_together(self) -> "TaskConfig":
        for name in self.dataset_args:
            if self.datasets and name not in self.datasets:
                raise InvalidInput(
                    f"dataset_args.{name}: {name!r} is not among the datasets of this run. "
                    f"{suggestion(name, self.datasets)}",
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


def checked(config: TaskConfig) -> TaskConfig:
    """The same config with its values checked again, since it may have been changed."""
    return TaskConfig(**dict(config))


def first_problem(error: ValidationError, secrets: frozenset[str] = frozenset({"api_key"})) -> InvalidInput:
    """The first problem, as a sentence; pydantic's own text may repeat a secret and speaks of types."""
    problem = error.errors(include_url=False, include_context=True)[0]
    # `limit: int | float` reports each member of the union under its own name.
    path = [str(part) for part in problem["loc"] if part not in {"int", "float"}]
    field = ".".join(path) or "config"
    value = "the value (withheld)" if secrets.intersection(path[:1]) else repr(problem["input"])[:80]
    way_out = _WAYS_OUT.get(problem["type"]) or f"{problem['msg'][:1].lower()}{problem['msg'][1:]}."
    return InvalidInput(f"{field}: {value} is not allowed; {way_out}", {"field": field})
