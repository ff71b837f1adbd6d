"""`PerfConfig`: what `evalmesh perf` takes, by flags or in a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from evalmesh.cli.config import Config
from evalmesh.cli.config_help import document
from evalmesh.cli.connections import default_url
from evalmesh.cli.eval.keys import sift
from evalmesh.cli.parser import PlaceOptions
from evalmesh.cli.perf.keys import without_foreign
from evalmesh.cli.perf.options import PerfOptions
from evalmesh.cli.perf.values import wrong
from evalmesh.domain.errors import InvalidInput

TRACES = ("trace", "workload_trace")
"""Data sets whose rows say when they are due."""
_NO_LEVELS = "leave it out for the default, or give one value per level."


class PerfConfig(PerfOptions, PlaceOptions, Config):
    """One load test. Field by field in docs/guides/perf-config.md.

    Wrong values raise `InvalidInput`, wishes of EvalScope that cannot be met raise `Unimplemented`; both name field,
    value and way out.
    """

    model_config = ConfigDict(frozen=True)

    withheld: ClassVar[frozenset[str]] = frozenset({"api_key", "wandb_api_key", "swanlab_api_key", "headers"})

    section: ClassVar[str] = "perf"
    paths: ClassVar[frozenset[str]] = frozenset({"dataset_path", "ca_file"})

    api_key: SecretStr | None = None
    wandb_api_key: SecretStr | None = None
    swanlab_api_key: SecretStr | None = None

    def __init__(self, **values: Any) -> None:
        # Type checkers would otherwise take only the fields that are written out here.
        super().__init__(**values)

    notes: list[str] = Field(default_factory=list, exclude=True)
    """Sentences about keys that are taken in another way than EvalScope does."""

    @model_validator(mode="before")
    @classmethod
    def _sift(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {("work_dir" if key == "outputs_dir" else key): value for key, value in values.items()}
        kept, notes = without_foreign(given)
        started_here = str(kept.get("api", "")).startswith("local")
        if default_url() and not started_here and not any(map(kept.get, ("url", "port", "connection"))):
            kept = {**kept, "url": default_url()}
        known = [name for name in cls.model_fields if name != "notes"]
        return {**sift(kept, known, {}, ""), "notes": notes}

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
    if (config.ramp or config.stages) and len(config.parallel) > 1:
        raise _refuse("stages", "they are one level; give at most one parallel.")
    if config.burstiness is not None and config.arrival not in {None, "gamma"}:
        raise _refuse("burstiness", f"it is the shape of arrival 'gamma', not of {config.arrival!r}.")


def _check_prompts(config: PerfConfig) -> None:
    if config.max_tokens and config.output_lengths:
        raise _refuse("output_lengths", "it says what max_tokens says too; leave out one of them.")
    if config.prefix_count > 1 and not config.prefix_length:
        raise _refuse("prefix_count", f"{config.prefix_count} prefixes need prefix_length, their tokens.")
    if config.multi_turn and config.open_loop:
        raise _refuse("open_loop", "a turn cannot be due before the answer to the one before it; leave out multi_turn.")
    if config.tokenize_prompt and not config.tokenizer_path and not is_model_folder(config.model):
        raise _refuse("tokenize_prompt", "true needs tokenizer_path, the model's tokenizer.")


def _check_search(config: PerfConfig) -> None:
    if config.sla_auto_tune and config.find_max and config.find_max != config.sla_variable:
        raise _refuse("find_max", f"{config.find_max!r} contradicts sla_variable {config.sla_variable!r}.")
    if config.sla_auto_tune and not (config.sla_params or config.slo):
        raise _refuse("sla_auto_tune", "true needs sla_params, the objective.")
    if config.slo and config.sla_params:
        raise _refuse("slo", "it says what sla_params says too; leave out one of them.")


def is_model_folder(model: str | None) -> bool:
    """Whether the model is a folder here that brings its tokenizer."""
    return bool(model) and (Path(str(model)).expanduser() / "tokenizer.json").is_file()


document(PerfConfig, (PerfOptions, PlaceOptions))
