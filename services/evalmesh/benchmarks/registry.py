"""Finds benchmarks by name: the ones in this folder, and those of installed packages.

A package adds its own through the entry point group `evalmesh.benchmarks`: each entry point names a callable that
returns an iterable of `Benchmark`. Nothing is imported before it is asked for.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.naming import suggestion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import is_safe_name

GROUP = "evalmesh.benchmarks"

_BUILT_IN = (
    "arc",
    "boolq",
    "drop",
    "general_mcq",
    "general_qa",
    "gsm8k",
    "hellaswag",
    "ifeval",
    "math_500",
    "mmlu",
    "starter_math",
    "starter_mcq",
    "wikitext",
    "winogrande",
)


def get(name: str) -> Benchmark:
    """The benchmark of this name; raises `InvalidInput` that suggests the nearest."""
    if name in _BUILT_IN:
        return _built_in(name)
    installed = _installed()
    if name in installed:
        return installed[name]
    raise InvalidInput(
        f"There is no benchmark named '{name}'. {suggestion(name, names())} "
        "`evalmesh benchmarks list` shows all of them.",
        {"field": "benchmarks.name", "value": name},
    )


def names() -> tuple[str, ...]:
    """All names, sorted."""
    return tuple(sorted((*_BUILT_IN, *_installed())))


def all_benchmarks() -> tuple[Benchmark, ...]:
    """All benchmarks, by name."""
    return tuple(get(name) for name in names())


def _built_in(name: str) -> Benchmark:
    benchmark: Benchmark = import_module(f"evalmesh.benchmarks.{name}").BENCHMARK
    return benchmark


@cache
def _installed() -> Mapping[str, Benchmark]:
    found: dict[str, Benchmark] = {}
    for point in entry_points(group=GROUP):
        for benchmark in _load(point):
            if benchmark.name in _BUILT_IN or benchmark.name in found:
                raise InvalidInput(
                    f"The installed entry point '{point.value}' brings a benchmark named '{benchmark.name}', a name "
                    "that is taken; rename it there or uninstall one of the packages."
                )
            if not is_safe_name(benchmark.name) or "." in benchmark.name:
                raise InvalidInput(
                    f"The installed entry point '{point.value}' brings a benchmark named '{benchmark.name}'; names "
                    "are lower-case letters, digits, '_' and '-', 63 characters at most."
                )
            found[benchmark.name] = benchmark
    return found


def _load(point: EntryPoint) -> tuple[Benchmark, ...]:
    try:
        benchmarks = tuple(point.load()())
    except Exception as error:
        raise InvalidInput(
            f"The installed entry point '{point.value}' of group '{GROUP}' failed with {type(error).__name__}: "
            f"{error}. Repair or uninstall that package."
        ) from error
    for benchmark in benchmarks:
        if not isinstance(benchmark, Benchmark):
            raise InvalidInput(
                f"The installed entry point '{point.value}' of group '{GROUP}' returned a "
                f"{type(benchmark).__name__} where a Benchmark is expected."
            )
    return benchmarks
