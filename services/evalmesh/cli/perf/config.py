"""What `evalmesh perf` takes, by flags or in a file: EvalScope's names, and ours for what EvalScope has not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from evalmesh.cli.eval.config import first_problem
from evalmesh.cli.eval.keys import sift
from evalmesh.cli.options import parse_options, read_config_file
from evalmesh.cli.perf.keys import without_foreign
from evalmesh.cli.perf.values import wrong
from evalmesh.domain.errors import InvalidInput

TRACES = ("trace", "workload_trace")
"""Data sets whose rows say when they are due."""
_MAPPINGS = ("headers", "dataset_args", "multi_turn_args", "extra_args", "export_args", "labels")
_SECRETS = frozenset({"api_key", "wandb_api_key", "swanlab_api_key", "headers"})
_NO_LEVELS = "leave it out for the default, or give one value per level."


class PerfConfig(BaseModel):
    """One load test. Field by field in docs/guides/perf-config.md.

    Wrong values raise `InvalidInput`, wishes of EvalScope that cannot be met raise `Unimplemented`; both name field,
    value and way out.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), frozen=True)

    # The endpoint and how it is reached.
    url: str | None = None
    port: int = Field(default=8877, ge=1, le=65535)
    api: str = "openai"
    model: str | None = None
    attn_implementation: str | None = None
    server_command: str | None = None
    server_timeout: float = Field(default=1800.0, gt=0)
    api_key: SecretStr | None = None
    connection: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    connect_timeout: float | None = Field(default=None, gt=0)
    read_timeout: float | None = Field(default=None, gt=0)
    total_timeout: float = Field(default=21600.0, gt=0)
    no_test_connection: bool = False
    transport: Literal["auto", "fast", "compatible"] = "auto"
    insecure: bool = False
    ca_file: str | None = None

    # The load.
    parallel: list[int] = Field(default_factory=list)
    rate: list[float] = Field(default_factory=list)
    number: list[int] = Field(default_factory=list)
    duration: float | None = Field(default=None, gt=0)
    open_loop: bool = False
    arrival: Literal["closed", "constant", "poisson", "gamma", "trace"] | None = None
    burstiness: float | None = Field(default=None, gt=0)
    stages: list[str] = Field(default_factory=list)
    ramp: list[float] | None = Field(default=None, min_length=3, max_length=3)
    trace_speed: float | None = Field(default=None, gt=0)
    warmup_num: float = Field(default=0.0, ge=0)
    sleep_interval: float | None = Field(default=None, ge=0)
    repeats: int = Field(default=1, ge=1, le=1000)
    generators: int = Field(default=1, ge=1, le=1024)
    seed: int | None = None

    # What is asked.
    dataset: str | None = None
    dataset_path: str | None = None
    dataset_args: dict[str, Any] = Field(default_factory=dict)
    dataset_offset: int = Field(default=0, ge=0)
    data_source: Literal["modelscope", "huggingface", "local"] | None = None
    prompt: str | None = None
    query_template: str | None = None
    apply_chat_template: bool | None = None
    tokenize_prompt: bool = False
    tokenizer_path: str | None = None
    max_prompt_length: int = Field(default=131072, ge=1)
    min_prompt_length: int = Field(default=0, ge=0)
    input_lengths: str | None = None
    prefix_length: int = Field(default=0, ge=0)
    prefix_count: int = Field(default=1, ge=1)
    image_width: int = Field(default=224, ge=1)
    image_height: int = Field(default=224, ge=1)
    image_format: Literal["RGB", "L"] = "RGB"
    image_num: int = Field(default=1, ge=1)
    multi_turn: bool = False
    min_turns: int = Field(default=1, ge=1)
    max_turns: int | None = Field(default=None, ge=1)
    think_time: float = Field(default=0.0, ge=0)
    multi_turn_args: dict[str, Any] = Field(default_factory=dict)
    documents: int = Field(default=0, ge=0)

    # What each body carries.
    max_tokens: list[int] = Field(default_factory=list, max_length=2)
    min_tokens: int | None = Field(default=None, ge=0)
    output_lengths: str | None = None
    n_choices: int | None = Field(default=None, ge=1)
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    stream: bool = True
    temperature: float | None = 0.0
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: bool | None = None
    extra_args: dict[str, Any] = Field(default_factory=dict)

    # The objective.
    slo: str | None = None
    find_max: Literal["rate", "parallel"] | None = None
    sla_auto_tune: bool = False
    sla_variable: Literal["rate", "parallel"] = "parallel"
    sla_params: Any = None
    sla_num_runs: int | None = Field(default=None, ge=1)
    sla_upper_bound: float | None = Field(default=None, gt=0)
    sla_lower_bound: float | None = Field(default=None, gt=0)
    sla_fixed_parallel: int | None = Field(default=None, ge=1)
    strict: bool = False

    # How it is executed, what is left behind and what is shown.
    server: str | None = None
    processes: bool = False
    server_metrics: list[str] = Field(default_factory=list)
    ignore_errors: bool = False
    name: str = ""
    alias: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    work_dir: str = "./outputs"
    no_timestamp: bool = False
    export: list[Literal["wandb", "swanlab", "mlflow", "clearml", "otlp", "prometheus"]] = Field(default_factory=list)
    export_args: dict[str, Any] = Field(default_factory=dict)
    visualizer: Literal["wandb", "swanlab", "clearml"] | None = None
    wandb_api_key: SecretStr | None = None
    swanlab_api_key: SecretStr | None = None
    swanlab_host: str | None = None
    dry_run: bool = False
    debug: bool = False

    notes: list[str] = Field(default_factory=list, exclude=True)
    """Sentences about keys that are taken in another way than EvalScope does."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise first_problem(error, _SECRETS) from None

    @model_validator(mode="before")
    @classmethod
    def _sift(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {("work_dir" if key == "outputs_dir" else key): value for key, value in values.items()}
        kept, notes = without_foreign(given)
        known = [name for name in cls.model_fields if name != "notes"]
        return {**sift(kept, known, {}, ""), "notes": notes}

    @field_validator(*_MAPPINGS, mode="before")
    @classmethod
    def _options(cls, value: Any, info: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, list):
            if not all(isinstance(part, str) and "=" in part for part in value):
                raise wrong(info.field_name, "the value (withheld)", "write NAME=VALUE.")
            return {name.strip(): text.strip() for name, _, text in (part.partition("=") for part in value)}
        return parse_options(value, info.field_name) if isinstance(value, str) else value

    @field_validator("headers", "labels", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: str(text) if isinstance(text, (int, float)) else text for name, text in value.items()}
        return value

    @field_validator(
        *("parallel", "rate", "number", "stages", "max_tokens", "stop", "stop_token_ids", "server_metrics", "export"),
        mode="before",
    )
    @classmethod
    def _listed(cls, value: Any, info: Any) -> Any:
        if value is None:
            return None if info.field_name in {"stop", "stop_token_ids"} else []
        return list(value) if isinstance(value, (list, tuple)) else [value]

    @field_validator("parallel", "number")
    @classmethod
    def _counts(cls, value: list[int], info: Any) -> list[int]:
        if any(one < 1 for one in value):
            raise wrong(info.field_name, value, f"each must be at least 1; {_NO_LEVELS}")
        return value

    @field_validator("rate")
    @classmethod
    def _rates(cls, value: list[float]) -> list[float]:
        if value and all(one == -1 for one in value):
            return []  # EvalScope's: no limit
        if any(not 0 < one < float("inf") for one in value):
            raise wrong("rate", value, f"each must be above 0, or all of them -1: none; {_NO_LEVELS}")
        return value

    @property
    def searched(self) -> Literal["rate", "parallel"] | None:
        """The load whose highest value is looked for."""
        return self.find_max or (self.sla_variable if self.sla_auto_tune else None)

    @model_validator(mode="after")
    def _fits_together(self) -> "PerfConfig":
        _check_load(self)
        _check_prompts(self)
        _check_search(self)
        return self


def _refuse(field: str, why: str) -> InvalidInput:
    return InvalidInput(f"{field}: {why}", {"field": field})


def _check_load(config: PerfConfig) -> None:
    several = {name: getattr(config, name) for name in ("parallel", "rate", "number") if len(getattr(config, name)) > 1}
    if len({len(values) for values in several.values()}) > 1:
        (first, values), *others = several.items()
        rest = " and ".join(f"{len(more)} of {name} {more}" for name, more in others)
        raise _refuse(
            first,
            f"{len(values)} values {values} and {rest} cannot be paired one by one; give as many of each, or one for "
            f"all levels.",
        )
    timed = bool(config.rate or config.stages or config.ramp or config.searched == "rate")
    traced = config.arrival == "trace" or config.dataset in TRACES
    if config.open_loop and not timed and not traced:
        raise _refuse("open_loop", "true needs rate, which says how many requests per second are due.")
    if config.ramp and config.stages:
        raise _refuse("ramp", "it goes with no stages; write it as one of them: --stages 60s:1-50.")
    if (config.ramp or config.stages) and (len(config.parallel) > 1 or config.rate):
        raise _refuse("stages", "they are one level and say its load; leave out rate, and give at most one parallel.")
    if config.arrival in {"constant", "poisson", "gamma"} and not timed:
        raise _refuse("arrival", f"{config.arrival!r} needs rate, the requests due per second.")
    if config.arrival == "closed" and config.rate:
        raise _refuse("arrival", "'closed' keeps requests in flight and knows no rate; leave out one of them.")
    if not timed and not traced and not config.searched and config.generators > max(config.parallel or [1]):
        raise _refuse(
            "generators",
            f"{config.generators} processes cannot share {max(config.parallel or [1])} requests in flight; use fewer.",
        )
    if config.burstiness is not None and config.arrival not in {None, "gamma"}:
        raise _refuse("burstiness", f"it is the shape of arrival 'gamma', not of {config.arrival!r}.")


def _check_prompts(config: PerfConfig) -> None:
    if config.min_prompt_length > config.max_prompt_length:
        raise _refuse(
            "min_prompt_length",
            f"{config.min_prompt_length} is more than max_prompt_length, {config.max_prompt_length}; swap them.",
        )
    if config.max_tokens and config.max_tokens != sorted(config.max_tokens):
        raise wrong("max_tokens", config.max_tokens, "give the least first, then the most.")
    if config.max_tokens and config.output_lengths:
        raise _refuse("output_lengths", "it says what max_tokens says too; leave out one of them.")
    if config.prefix_count > 1 and not config.prefix_length:
        raise _refuse("prefix_count", f"{config.prefix_count} prefixes need prefix_length, their tokens.")
    if config.max_turns is not None and config.max_turns < config.min_turns:
        raise wrong("max_turns", config.max_turns, f"it must be at least min_turns, {config.min_turns}.")
    if config.multi_turn and config.open_loop:
        raise _refuse("open_loop", "a turn cannot be due before the answer to the one before it; leave out multi_turn.")
    if config.tokenize_prompt and not config.tokenizer_path and not is_model_folder(config.model):
        raise _refuse("tokenize_prompt", "true needs tokenizer_path, the model's tokenizer.")


def _check_search(config: PerfConfig) -> None:
    if config.sla_auto_tune and config.find_max and config.find_max != config.sla_variable:
        raise _refuse("find_max", f"{config.find_max!r} contradicts sla_variable {config.sla_variable!r}.")
    if config.sla_auto_tune and not (config.sla_params or config.slo):
        raise _refuse("sla_auto_tune", "true needs sla_params, the objective.")
    if config.find_max and not (config.slo or config.sla_params):
        raise _refuse("find_max", f"{config.find_max!r} needs slo, the objective: --slo ttft:p99:500ms")
    if config.slo and config.sla_params:
        raise _refuse("slo", "it says what sla_params says too; leave out one of them.")
    low, high = config.sla_lower_bound or 1.0, config.sla_upper_bound
    if high is not None and high < low:
        raise wrong("sla_upper_bound", high, f"it must be at least sla_lower_bound, {low:g}.")


def is_model_folder(model: str | None) -> bool:
    """Whether the model is a folder here that brings its tokenizer."""
    return bool(model) and (Path(str(model)).expanduser() / "tokenizer.json").is_file()


def load_perf_config(file: str | None, said: Mapping[str, Any]) -> PerfConfig:
    """What was said on the command line over what the file says; mappings of both are merged key by key."""
    base = read_config_file(Path(file).expanduser()) if file else {}
    merged = {**base, **said}
    for name in _MAPPINGS:
        if name in base and name in said:
            merged[name] = {**_mapping(name, base[name]), **_mapping(name, said[name])}
    return PerfConfig(**merged)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    return dict(getattr(PerfConfig(**{name: value}), name))
