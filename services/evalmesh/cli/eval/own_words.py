"""Refusals of a spec, told in the keys that its user typed."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.run import BenchmarkSpec

_PLACE = re.compile(r"\bbenchmarks(?:\[(?P<index>\d+)\]|\.(?P<name>[a-z0-9_-]+))\.(?P<field>[a-z_]+)")
_KEYS = {
    "subsets": "subset_list",
    "revision": "dataset_revision",
    "split": "eval_split",
    "few_shot_split": "train_split",
    "remove_until": "filters.remove_until",
    "extra": "extra_params",
}


@contextmanager
def own_words(benchmarks: Sequence[BenchmarkSpec]) -> Iterator[None]:
    """Raises what is raised inside with `dataset_args.law.subset_list` for `benchmarks[0].subsets`."""
    try:
        yield
    except EvalmeshError as error:

        def key_of(found: re.Match[str]) -> str:
            if found["field"] == "benchmark":
                return "datasets"
            index = int(found["index"] or 0)
            name = found["name"] or (benchmarks[index].name if index < len(benchmarks) else found["index"])
            return f"dataset_args.{name}.{_KEYS.get(found['field'], found['field'])}"

        message = re.sub(r"\bfew_shot_split\b", "train_split", _PLACE.sub(key_of, error.message))
        if message == error.message:
            raise
        field = _PLACE.sub(key_of, error.details.get("field", ""))
        raise type(error)(message, {**error.details, "field": field}) from None
