"""Finds data sets by name: the ones in this folder, and those of installed packages.

A package adds one through the entry point group `evalmesh.load_datasets`: the entry point has the data set's name and
is a `Dataset`. Nothing is imported before it is asked for.
"""

from difflib import get_close_matches
from importlib import import_module

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.prompts.base import Dataset

GROUP = "evalmesh.load_datasets"
_ALIKE = 0.75
"""Names less alike than this are no slip of a finger."""

_MODULES = {
    "random_text": (
        "random",
        "random_multi_turn",
        "speed_benchmark",
        "speed_benchmark_long",
        "random_embedding",
        "random_rerank",
    ),
    "images": ("random_vl", "image_folder"),
    "texts": ("openqa", "longalpaca", "line_by_line", "custom", "embedding", "rerank"),
    "conversations": ("sharegpt", "sharegpt_multi_turn", "custom_multi_turn"),
    "trace": ("trace",),
}
_ALIASES = {
    "share_gpt_en": "sharegpt",
    "share_gpt_zh": "sharegpt",
    "share_gpt_en_multi_turn": "sharegpt_multi_turn",
    "share_gpt_zh_multi_turn": "sharegpt_multi_turn",
    "workload_trace": "trace",
    "flickr8k": "image_folder",
    "kontext_bench": "image_folder",
}
"""Names that other tools use for the same."""


def get(name: str) -> Dataset:
    """The data set of this name; raises `InvalidInput` that suggests the nearest."""
    own = _ALIASES.get(name, name)
    for module, members in _MODULES.items():
        if own in members:
            found: tuple[Dataset, ...] = import_module(f"evalmesh.load_generator.prompts.datasets.{module}").DATASETS
            return next(dataset for dataset in found if dataset.name == own)
    return _plug_in(name)


def names() -> tuple[str, ...]:
    """All names, sorted, those of plug-ins and the other names of built-in ones included."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and rarely needed

    built_in = [name for members in _MODULES.values() for name in members]
    return tuple(sorted({*built_in, *_ALIASES, *(point.name for point in entry_points(group=GROUP))}))


def _plug_in(name: str) -> Dataset:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and rarely needed

    field = {"field": "prompts.dataset", "value": name}
    points = tuple(entry_points(group=GROUP, name=name))
    if not points:
        near = get_close_matches(name, names(), 1, _ALIKE)
        raise InvalidInput(
            f"dataset: there is no load data set named '{name}'. "
            + (f"Did you mean '{near[0]}'? " if near else "")
            + f"There are {', '.join(names())}.",
            field,
        )
    if len(points) > 1:
        raise InvalidInput(
            f"More than one installed package brings a load data set named '{name}': "
            f"{', '.join(point.value for point in points)}. Uninstall all but one.",
            field,
        )
    try:
        dataset = points[0].load()
    except Exception as error:
        raise InvalidInput(
            f"The installed entry point '{points[0].value}' of group '{GROUP}' failed with {type(error).__name__}: "
            f"{error}. Repair or uninstall that package.",
            field,
        ) from error
    if not isinstance(dataset, Dataset) or (dataset.make is None) == (dataset.rows is None):
        raise InvalidInput(
            f"The installed entry point '{points[0].value}' of group '{GROUP}' is no Dataset with either `make` or "
            "`rows`.",
            field,
        )
    return dataset
