"""Whether two runs asked the same, and in what they differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

_MODEL = ("name", "engine", "kind", "url")
_CONFIG = ("seed", "on_error", "limit")
_SHORT = 200


def run_differences(a: Document, b: Document) -> list[dict[str, Any]]:
    """What differs for all benchmarks alike: `[{name, a, b}]`."""
    found = [(f"model.{name}", a["model"].get(name), b["model"].get(name)) for name in _MODEL]
    found += [(name, a["config"].get(name), b["config"].get(name)) for name in _CONFIG]
    found.append(("evalmesh_version", a.get("evalmesh_version"), b.get("evalmesh_version")))
    return _unequal(found)


def benchmark_differences(a: Document, b: Document) -> list[dict[str, Any]]:
    """What differs for one benchmark: data, prompt, generation."""
    found = [(name, a.get(name), b.get(name)) for name in ("version", "dataset_digest", "n_samples", "repeats")]
    for part in ("overrides", "generation"):
        ours, theirs = a.get(part) or {}, b.get(part) or {}
        prefix = "generation." if part == "generation" else ""
        names = dict.fromkeys((*ours, *theirs))
        found += [(f"{prefix}{name}", ours.get(name), theirs.get(name)) for name in names]
    return _unequal(found)


def _unequal(found: Sequence[tuple[str, Any, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "a": _short(a), "b": _short(b)} for name, a, b in found if a != b]


def _short(value: Any) -> Any:
    return f"{value[:_SHORT]}..." if isinstance(value, str) and len(value) > _SHORT else value


def kind_of(benchmark: Document) -> str:
    """The name in the registry, of what may be called something else in its run."""
    return str((benchmark.get("overrides") or {}).get("benchmark") or benchmark["name"])


def unlike_scoring(a: Document, b: Document) -> Iterator[str]:
    """Why equal answers could have got unequal scores. `remove_until` is none: it belongs to how a model answers."""
    name = a["name"]
    if kind_of(a) != kind_of(b):
        yield f"{name} is {kind_of(a)} in A and {kind_of(b)} in B"
    elif a["version"] != b["version"]:
        yield (
            f"{name} has version {a['version']} in A and {b['version']} in B, and a version grows when a score could "
            "change"
        )
    ours, theirs = ((side.get("overrides") or {}).get("extra") for side in (a, b))
    if ours != theirs:
        yield f"{name} was asked or scored in another way: extra is {ours or 'empty'} in A and {theirs or 'empty'} in B"
    elif a["primary_metric"] != b["primary_metric"]:
        yield f"the primary metric of {name} is {a['primary_metric']} in A and {b['primary_metric']} in B"


def labels(reports: Sequence[Document]) -> list[str]:
    """A short name for each run, all different: its own, or the model's, and where that is not enough its id."""
    own = [report["run"]["display_name"] or report["model"]["label"] for report in reports]
    both = [
        f"{name} ({report['model']['label']})" if own.count(name) > 1 and name != report["model"]["label"] else name
        for name, report in zip(own, reports, strict=True)
    ]
    full = [
        f"{name} {report['run']['id']}" if both.count(name) > 1 else name
        for name, report in zip(both, reports, strict=True)
    ]
    return [f"{name} #{full[: at + 1].count(name)}" if full.count(name) > 1 else name for at, name in enumerate(full)]
