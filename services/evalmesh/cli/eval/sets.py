"""The benchmarks of a run: from the names and `dataset_args` of the user's config to `BenchmarkSpec`s."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalmesh.benchmarks import registry
from evalmesh.cli.config import NO_TEXT, as_unquoted
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.datasets import NamedSet, read_set
from evalmesh.cli.eval.keys import DATASET_ADVICE, FILTER_ADVICE, sift
from evalmesh.cli.options import parse_options
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.limit import parse_limit
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.wire.runs.checks import check_form

DEMO_MODEL = "simulated"
DEMO_DATASETS = ("starter_math", "starter_mcq")

_DATASET_KEYS = {
    # EvalScope's name -> field of BenchmarkSpec and its type
    "local_path": ("local_path", str),
    "dataset_id": ("dataset_id", str),
    "dataset_revision": ("revision", str),
    "revision": ("revision", str),
    "eval_split": ("split", str),
    "train_split": ("few_shot_split", str),
    "few_shot_num": ("few_shot_num", int),
    "few_shot_random": ("few_shot_random", bool),
    "shuffle": ("shuffle", bool),
    "shuffle_choices": ("shuffle_choices", bool),
    "prompt_template": ("prompt_template", str),
    "system_prompt": ("system_prompt", str),
    "extra_params": ("extra", dict),
}
_EXTRA_KEYS = ("scoring",)
"""Settings that only some benchmarks have; written like the others, or into `extra_params`."""
_FORM_KEYS = {"columns": dict, "encoding": str, "delimiter": str}
"""How the rows of own files are to be read."""
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a mapping"}


def sets_of(config: TaskConfig) -> list[NamedSet]:
    """The benchmarks of the run."""
    texts = config.datasets or (list(DEMO_DATASETS) if config.demo else [])
    return [read_set(text, config.dataset_args) for text in texts]


def path_for(path: str | None, config: TaskConfig) -> str:
    """Absolute for a local platform, whose data set loader may run elsewhere; as it is for a server's own disk."""
    if not path:
        return ""
    return path if config.server else str(Path(path).expanduser().absolute())


def benchmark_spec(one: NamedSet, config: TaskConfig) -> BenchmarkSpec:
    """One benchmark of the run with its `dataset_args`."""
    field = f"dataset_args.{one.name}"
    keys = (*_DATASET_KEYS, *_EXTRA_KEYS, *_FORM_KEYS, "benchmark", "subset_list", "filters", "limit")
    given = sift(config.dataset_args.get(one.name, {}), keys, DATASET_ADVICE, field)
    given = {key: value for key, value in given.items() if value is not None}
    # What is said for all benchmarks gives way to what is said for this one.
    general = {"few_shot_num": config.num_fewshot, "system_prompt": config.system_prompt}
    given = {**{key: value for key, value in general.items() if value is not None}, **given}
    values: dict[str, Any] = {
        target: typed(given[key], kind, f"{field}.{key}")
        for key, (target, kind) in _DATASET_KEYS.items()
        if key in given
    }
    if own := {key: given[key] for key in _EXTRA_KEYS if key in given}:
        values["extra"] = {**values.get("extra", {}), **own}
    _say_where(values, one, config)
    if "subset_list" in given:
        values["subsets"] = _subsets(given["subset_list"], f"{field}.subset_list")
    elif subsets := _named_subsets(one.name, config):
        values["subsets"] = subsets
    if "limit" in given:
        values["limit"] = parse_limit(given["limit"], f"{field}.limit")
    filters = typed(given.get("filters", {}), dict, f"{field}.filters")
    filters = sift(filters, ("remove_until",), FILTER_ADVICE, f"{field}.filters")
    if filters.get("remove_until"):
        values["remove_until"] = typed(filters["remove_until"], str, f"{field}.filters.remove_until")
    values["form"] = _form(given, field)
    return BenchmarkSpec(name=one.name, benchmark="" if one.name == one.benchmark else one.benchmark, **values)


def _say_where(values: dict[str, Any], one: NamedSet, config: TaskConfig) -> None:
    """Where the rows are, from all the places in which that may be said."""
    if one.local_path and "local_path" in values:
        field = f"dataset_args.{one.name}.local_path"
        raise wrong(field, values["local_path"], f"datasets name {one.local_path!r}; say it once.")
    if one.local_path:
        values["local_path"] = one.local_path
    if config.dataset_id and not {"local_path", "dataset_id"} & values.keys() and takes_dataset_id(one, config):
        values["dataset_id"] = config.dataset_id
    if "local_path" not in values and not config.server and Path(values.get("dataset_id", "")).is_absolute():
        values["local_path"] = values.pop("dataset_id")  # EvalScope takes a folder under this name too
    if "local_path" in values:
        values["local_path"] = path_for(values["local_path"], config)


def takes_dataset_id(one: NamedSet, config: TaskConfig) -> bool:
    """Whether `dataset_id`, which names no benchmark, is about this one: it is alone, or brings no data of its own."""
    return len(sets_of(config)) == 1 or registry.get(one.benchmark).needs_local_path


def _form(given: Mapping[str, Any], field: str) -> RowForm:
    said = {key: typed(given[key], kind, f"{field}.{key}") for key, kind in _FORM_KEYS.items() if key in given}
    for key, text in said.get("columns", {}).items():
        typed(text, str, f"{field}.columns.{key}")
    form = RowForm.said(said.get("columns", {}), said.get("encoding", ""), said.get("delimiter", ""))
    check_form(f"{field}.", form)
    return form


def _named_subsets(name: str, config: TaskConfig) -> tuple[str, ...]:
    """Those of `subset` that belong to this benchmark. Raises `InvalidInput` for one that belongs to none."""
    names = [one.name for one in sets_of(config)]
    if len(names) == 1:
        return tuple(one.removeprefix(f"{name}/") for one in config.subset)
    for one in config.subset:
        if one.partition("/")[0] not in names:
            raise wrong("subset", one, f"there are several benchmarks: write e.g. {name}/{one}.")
    return tuple(one.removeprefix(f"{name}/") for one in config.subset if one.startswith(f"{name}/"))


def _subsets(value: Any, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list) or not value:
        raise wrong(field, value, "give a list of subsets, or leave it out for all.")
    return tuple(typed(part, str, field) for part in value)


def typed(value: Any, kind: type, field: str) -> Any:
    """The value if it is of this kind; whole floats pass as integers and integers as floats."""
    if kind is dict and isinstance(value, str):
        return parse_options(value, field)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise wrong(field, value, f"give {_TYPE_NAMES[kind]}.")
    return float(value) if kind is float else value


def wrong(field: str, value: Any, way_out: str) -> InvalidInput:
    """For a value of the config that cannot be used."""
    if way_out.startswith("give text") and (unquoted := as_unquoted(value)):
        return InvalidInput(f"{field}: {unquoted} {NO_TEXT}", {"field": field})
    return InvalidInput(f"{field}: {repr(value)[:80]} is not allowed; {way_out}", {"field": field})
