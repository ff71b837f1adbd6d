"""The benchmarks of a run as people name them: `gsm8k`, `exam=general_mcq`, `general_qa:faq.csv`.

`NAME=BENCHMARK:PATH`: what the run calls it, which benchmark it is, and the file or folder with the rows. All but the
benchmark may be left out, or be said in `dataset_args` under the name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.naming import suggestion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import is_safe_name

_PARTS = re.compile(r"(?:(?P<name>[^=:]*)=)?(?P<benchmark>[^=:]*)(?::(?P<path>.+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NamedSet:
    """One benchmark of a run."""

    name: str
    benchmark: str
    local_path: str = ""

    def __str__(self) -> str:
        """As it is typed."""
        name = "" if self.name == self.benchmark else f"{self.name}="
        return f"{name}{self.benchmark}{f':{self.local_path}' if self.local_path else ''}"


def read_set(text: str, dataset_args: Mapping[str, Any] | None = None) -> NamedSet:
    """What was typed, and what `dataset_args` say of it. Raises `InvalidInput` for a name that is none."""
    found = _PARTS.fullmatch(text.strip())
    if found is None or not found["benchmark"] or found["name"] == "":
        raise _wrong(text, "write NAME, NAME=BENCHMARK or NAME=BENCHMARK:PATH, as in `exam=general_mcq:exam.csv`")
    own = (dataset_args or {}).get(found["name"] or found["benchmark"])
    said = own.get("benchmark") if isinstance(own, Mapping) else None
    if said is not None and found["name"] is not None and said != found["benchmark"]:
        raise _wrong(text, f"dataset_args say that it is {str(said)[:80]!r}; say it once")
    name = found["name"] or found["benchmark"]
    one = NamedSet(name, str(said or found["benchmark"]), found["path"] or "")
    if not is_safe_name(one.benchmark):
        raise _wrong(text, f"{one.benchmark[:80]!r} is no benchmark. {suggestion(one.benchmark, registry.names())}")
    if one.name != one.benchmark:
        if not is_safe_name(name) or "." in name:
            raise _wrong(text, f"{name[:80]!r} is no name; use lower-case letters, digits, `_` and `-`")
        if name in registry.names():
            raise _wrong(text, f"{name!r} is a benchmark itself; give this one another name")
    return one


def split_names(text: str) -> list[str]:
    """One word of the command line as the benchmarks in it; a path may hold commas and blanks."""
    return [text] if ":" in text else [name for name in re.split(r"[,\s]+", text) if name]


def _wrong(text: str, problem: str) -> InvalidInput:
    end = "" if problem.endswith((".", "?")) else "."
    return InvalidInput(f"datasets: {text[:200]!r} is not allowed: {problem}{end}", {"field": "datasets"})
