"""A user's wishes for one benchmark: checked, and merged with what the benchmark says itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec

from evalmesh.benchmarks.base import GENERATE, SCORING, Benchmark, scoring_keys, scoring_of
from evalmesh.benchmarks.naming import suggestion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.limit import check_limit
from evalmesh.domain.run import BenchmarkSpec

DEFAULT_SUBSET = "default"
"""The one subset of a data set that has none."""


def selected_subsets(benchmark: Benchmark, spec: BenchmarkSpec, found: Sequence[str] = ()) -> tuple[str, ...]:
    """What will be evaluated: the user's choice, else the benchmark's subsets, else `found` on disk, else `default`.

    Raises `InvalidInput` for a subset that is not there.
    """
    known = benchmark.subsets or tuple(found) or (DEFAULT_SUBSET,)
    if spec.subsets is None:
        return known
    if benchmark.subsets or found or (benchmark.dataset.packaged and not spec.local_path):
        _check_subsets(benchmark, spec, known)
    return spec.subsets


def split(benchmark: Benchmark, spec: BenchmarkSpec) -> str:
    """The split that is evaluated."""
    return spec.split or benchmark.split


def few_shot_split(benchmark: Benchmark, spec: BenchmarkSpec) -> str:
    """The split solved examples come from; empty when there is none."""
    return spec.few_shot_split or benchmark.few_shot_split


def few_shot_num(benchmark: Benchmark, spec: BenchmarkSpec) -> int:
    """How many solved examples each prompt shows."""
    return benchmark.few_shot_num if spec.few_shot_num is None else spec.few_shot_num


def validate_spec(benchmark: Benchmark, spec: BenchmarkSpec) -> None:
    """Refuses wishes that cannot be met, before anything is read; raises `InvalidInput` with `details["field"]`.

    Subsets of a data set that has no list of them are checked by `selected_subsets`, once they have been found.
    """
    where = f"benchmarks.{spec.name}."
    if benchmark.needs_local_path and not spec.local_path and not spec.dataset_id:
        raise _wrong(
            where + "local_path",
            "",
            f"is needed: this benchmark brings no data; name your file or folder there, or as {spec.name}:FILE, or a "
            "data set of a hub in dataset_id",
        )
    if spec.subsets is not None:
        if len(set(spec.subsets)) < max(len(spec.subsets), 1):
            raise _wrong(where + "subsets", ", ".join(spec.subsets), "must name at least one subset, and none twice")
        if benchmark.subsets:
            _check_subsets(benchmark, spec, benchmark.subsets)
    check_limit(spec.limit, where + "limit")
    _check_few_shot(benchmark, spec, where)
    _check_prompt(benchmark.for_spec(spec), spec, where)
    if spec.remove_until == "":
        raise _wrong(where + "remove_until", "", "must not be empty; leave it out to keep the whole completion")
    _check_mode(benchmark, spec, where)
    _check_packages(benchmark.for_spec(spec), spec, where)
    _check_columns(benchmark, spec, where)
    for key in spec.extra.keys() - (scoring_keys(spec) if benchmark.modes else set()):
        known = [one.name for one in fields(BenchmarkSpec) if one.name not in {"name", "extra"}]
        raise _wrong(where + key, spec.extra[key], f"is not a setting of this benchmark. {suggestion(key, known)}")


def _check_columns(benchmark: Benchmark, spec: BenchmarkSpec, where: str) -> None:
    if spec.form and benchmark.dataset.packaged and not spec.local_path:
        raise _wrong(where + "columns", spec.form, "is about files of your own, and none is named in local_path")
    known = [one.name for one in benchmark.columns]
    for name, given in spec.form.columns.items() if known else ():
        if name not in known and given in known:
            problem = f'stands in front of \'{given}\', which is the benchmark\'s own: write {{"{given}": "{name}"}}'
            raise _wrong(where + "columns", name, problem)
        if name not in known:
            raise _wrong(where + "columns", name, f"is no column of this benchmark. {suggestion(name, known)}")


def _check_mode(benchmark: Benchmark, spec: BenchmarkSpec, where: str) -> None:
    mode = scoring_of(spec)
    if benchmark.modes and mode not in {GENERATE, *benchmark.modes}:
        known = [GENERATE, *benchmark.modes]
        raise _wrong(where + SCORING, mode, f"is not a way to ask {benchmark.name}. {suggestion(mode, known)}")


def _check_packages(benchmark: Benchmark, spec: BenchmarkSpec, where: str) -> None:
    packages: Mapping[str, str] = getattr(benchmark.shape, "packages", {})
    if missing := [package for module, package in packages.items() if find_spec(module) is None]:
        chosen = (where + SCORING, scoring_of(spec)) if benchmark.modes else (where + "name", benchmark.name)
        raise _wrong(
            *chosen,
            f"needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed here: "
            f"pip install 'evalmesh[{getattr(benchmark.shape, 'extra', '')}]'",
        )


def _check_few_shot(benchmark: Benchmark, spec: BenchmarkSpec, where: str) -> None:
    wanted = few_shot_num(benchmark, spec)
    if not 0 <= wanted <= benchmark.few_shot_max:
        raise _wrong(where + "few_shot_num", wanted, f"must be from 0 to {benchmark.few_shot_max}")
    if wanted == 0:
        return
    source = few_shot_split(benchmark, spec)
    if not source:
        raise _wrong(
            where + "few_shot_num",
            wanted,
            "must be 0: this benchmark has no split to take solved examples from; name one in few_shot_split",
        )
    if source == split(benchmark, spec):
        raise _wrong(
            where + "few_shot_split",
            source,
            "is also the evaluated split, so prompts would show the answers asked for; name another, or set "
            "few_shot_num to 0",
        )


def _check_prompt(benchmark: Benchmark, spec: BenchmarkSpec, where: str) -> None:
    needed = benchmark.shape.placeholders
    if not benchmark.shape.template:
        for name in ("prompt_template", "system_prompt", "few_shot_num"):
            if value := getattr(spec, name):
                raise _wrong(where + name, value, "has no effect here: texts are scored as they are, without a prompt")
    if spec.prompt_template is not None:
        missing = [name for name in needed if "{" + name + "}" not in spec.prompt_template]
        if missing:
            wanted = " and ".join("{" + name + "}" for name in missing)
            found = ", ".join(sorted(set(re.findall(r"\{\w+\}", spec.prompt_template)))) or "no placeholder"
            raise _wrong(where + "prompt_template", spec.prompt_template, f"must contain {wanted}; it contains {found}")
    if spec.shuffle_choices and "choices" not in needed:
        raise _wrong(where + "shuffle_choices", value=True, problem="has no effect here: there are no options")


def _check_subsets(benchmark: Benchmark, spec: BenchmarkSpec, known: Sequence[str]) -> None:
    for subset in spec.subsets or ():
        if subset not in known:
            field = f"benchmarks.{spec.name}.subsets"
            raise _wrong(field, subset, f"is not a subset of {benchmark.name}. {suggestion(subset, known)}")


def _wrong(field: str, value: object, problem: str) -> InvalidInput:
    shown = repr(value) if len(repr(value)) <= 200 else repr(value)[:200] + "..."
    end = "" if problem.endswith((".", "?")) else "."
    return InvalidInput(f"{field} = {shown} {problem}{end}", {"field": field, "value": str(value)})
