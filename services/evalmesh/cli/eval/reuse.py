"""`use_cache`: where the earlier answers come from, what of them can be copied, and why nothing was."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from evalmesh.domain.digest import model_identity
from evalmesh.domain.errors import NotFound
from evalmesh.domain.run import OWN_ENGINES, BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.results.reusable import completion_lines
from evalmesh.sdk import AsyncClient

_SAME_ANSWERS = frozenset({"name", "subsets", "limit", "remove_until", "shuffle"})
"""Of a benchmark: a change of these leaves each answer as it was."""
_GENERATION = "generation_config"


@dataclass(frozen=True, slots=True)
class Earlier:
    """The run whose answers are to be copied."""

    run: str
    folder: Path | None
    """Its outputs, where they are at hand."""
    spec: RunSpec | None
    """`None`: only its outputs are known."""


async def find_earlier(client: AsyncClient, run_id: str, folder: Path | None) -> Earlier:
    """By the platform; where that does not know it, by its outputs. Raises `NotFound`."""
    try:
        return Earlier(run_id, folder, (await client.get_run(run_id)).spec)
    except NotFound as error:
        if folder is None:
            raise
        if not any((folder / "results").glob("*.parquet")):
            raise NotFound(
                f"use_cache: the platform does not know run {run_id}, and {str(folder)!r} holds no results to take its "
                "answers from (it ended before there was a report); leave use_cache out.",
                {"field": "use_cache"},
            ) from error
        return Earlier(run_id, folder, None)


async def with_earlier(client: AsyncClient, spec: RunSpec, earlier: Earlier) -> RunSpec:
    """The spec that copies what it can; results of a run that the platform does not know are sent there."""
    if earlier.spec is not None or earlier.folder is None:
        return spec
    digests = []
    with tempfile.TemporaryDirectory(prefix="evalmesh-") as scratch:
        for results in sorted((earlier.folder / "results").glob("*.parquet")):
            lines = Path(scratch) / f"{results.stem}.jsonl"
            with lines.open("wb") as file:
                file.writelines(completion_lines(results))
            if lines.stat().st_size:
                digests.append((await client.import_completions(lines)).digest)
    return replace(spec, reuse_runs=(), reuse_completions=tuple(digests))


def differences(before: RunSpec, now: RunSpec) -> list[str]:
    """Why no answer of an earlier run can be one of this run's, by what both asked for; empty: some can."""
    found = [
        f"{what} is {_shown(new)}, and was {_shown(old)}"
        for what, old, new in (
            *_model(before.model, now.model),
            *(
                (f"{_GENERATION}.{one.name}", getattr(before.generation, one.name), getattr(now.generation, one.name))
                for one in fields(now.generation)
            ),
        )
        if old != new
    ]
    earlier = {one.name: one for one in before.benchmarks}
    common = [one for one in now.benchmarks if one.name in earlier]
    if not common:
        return [*found, f"datasets: it had {', '.join(earlier)}"]
    changed = [list(_changes(earlier[one.name], one)) for one in common]
    # One benchmark that is as it was is enough for some answers to be copied.
    return found + ([line for lines in changed for line in lines] if all(changed) else [])


def _model(before: ModelSpec, now: ModelSpec) -> Iterator[tuple[str, Any, Any]]:
    old, new = model_identity(before), model_identity(now)
    # Of a model that runs here the files count and not their folder; what is in them is not known yet.
    keys = ("engine", "kind", "args") if now.engine in OWN_ENGINES else ("name", "engine", "kind", "args")
    words = {"name": "model", "kind": "request_kind", "args": "model_args"}
    return ((words.get(key, key), old[key], new[key]) for key in keys)


def _changes(before: BenchmarkSpec, now: BenchmarkSpec) -> Iterator[str]:
    for one in fields(now):
        old, new = getattr(before, one.name), getattr(now, one.name)
        if one.name not in _SAME_ANSWERS and old != new:
            yield f"{one.name} of {now.name} is {_shown(new)}, and was {_shown(old)}"


def report_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The same by the reports of both, which know data and versions too."""
    weights = [report["model"].get("weights", "") for report in (before, now)]
    what_counts = (("request_kind", "kind"), ("engine", "engine"), *([] if all(weights) else [("model", "name")]))
    found = [
        f"{what} is {_shown(now['model'][key])}, and was {_shown(before['model'][key])}"
        for what, key in what_counts
        if before["model"].get(key) != now["model"].get(key)
    ]
    if weights[0] != weights[1] and all(weights):
        found.append("the files of the model are others")
    earlier = {one["name"]: one for one in before["benchmarks"]}
    for one in now["benchmarks"]:
        old = earlier.get(one["name"])
        if old is None:
            found.append(f"{one['name']} was not in it")
            continue
        if old["version"] != one["version"]:
            found.append(f"{one['name']} is version {one['version']}, and was {old['version']}")
        if old["dataset_digest"] != one["dataset_digest"]:
            found.append(f"the data of {one['name']} has changed")
        for what in ("generation", "overrides"):
            found += _changed_keys(one["name"], old[what], one[what])
    return found


def _changed_keys(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*now, *before)):
        if key not in _SAME_ANSWERS and before.get(key) != now.get(key):
            yield f"{key} of {name} is {_shown(now.get(key))}, and was {_shown(before.get(key))}"


def _shown(value: Any) -> str:
    text = "not set" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
