"""Runs against a baseline, as a document. Its fields are explained in docs/compare-schema.md; change both together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import fsum
from typing import Any

from evalmesh.domain.comparison import MOST_RUNS, ComparisonWish
from evalmesh.domain.errors import InvalidInput
from evalmesh.results.comparing.alike import Joined, Source, join_runs
from evalmesh.results.comparing.flips import flip_rows
from evalmesh.results.comparing.likeness import Document, benchmark_differences, labels, run_differences
from evalmesh.results.comparing.pairing import Compared, Flips
from evalmesh.results.json_values import own_version
from evalmesh.scoring.paired import verdict
from evalmesh.scoring.statistics import holm

SCHEMA_VERSION = 1
_EFFECT = ("n", "clusters", "a", "b", "difference", "stderr", "ci95", "test", "p_value", "smallest")


class Comparison:
    """What is known of all the runs, and the samples on which they differ."""

    def __init__(
        self, document: dict[str, Any], sources: Sequence[Source], flips: Sequence[tuple[int, str, Flips]]
    ) -> None:
        self.document = document
        self._flips = flips
        self._sources = sources

    def flips(self, most: int | None = None, *, texts: bool = False) -> Iterator[dict[str, Any]]:
        """The samples whose primary metric differs, run by run and benchmark by benchmark, largest difference first.

        Args:
            most: At most so many of each benchmark of each run; `None`: all.
            texts: With the completions, which may be long.
        """
        for run, name, flips in self._flips:
            files = self._sources[0].open(name), self._sources[run].open(name)
            for row in flip_rows(files, flips, most, texts=texts):
                yield {"run": run, "benchmark": name, **row}


def compare_runs(sources: Sequence[Source], wish: ComparisonWish, create_time: str) -> Comparison:
    """Each run against the first one. Raises `InvalidInput` for what cannot be compared."""
    if not 2 <= len(sources) <= MOST_RUNS:
        raise InvalidInput(
            f"A comparison needs the baseline and what is compared with it, {MOST_RUNS} runs at most; these are "
            f"{len(sources)}.",
            {"field": "runs"},
        )
    reports = [source.report for source in sources]
    comparisons: list[dict[str, Any]] = []
    flips: list[tuple[int, str, Flips]] = []
    for at, other in enumerate(sources[1:], start=1):
        joined = join_runs(sources[0], other, wish)
        comparisons.append(_comparison(at, (reports[0], other.report), joined, wish))
        flips += [(at, one.name, one.pairs.flips()) for one in joined]
    judged = [metric for one in comparisons for metric in metrics_of(one) if metric["judged"]]
    _judge(judged)
    document = {
        "schema_version": SCHEMA_VERSION,
        "evalmesh_version": own_version(),
        "create_time": create_time,
        "runs": [_side(name, report) for name, report in zip(labels(reports), reports, strict=True)],
        "judged": len(judged),
        "comparisons": comparisons,
        "matrix": _matrix(sources, comparisons, wish) if len(sources) > 2 else [],
    }
    return Comparison(document, sources, flips)


def metrics_of(comparison: Document) -> Iterator[dict[str, Any]]:
    """Every metric of a comparison, subsets included."""
    for benchmark in comparison["benchmarks"]:
        for part in (benchmark, *benchmark["subsets"]):
            yield from part["metrics"]


def _side(label: str, report: Document) -> dict[str, Any]:
    run, model = report["run"], report["model"]
    return {
        "label": label,
        **{name: run[name] for name in ("id", "display_name", "state", "complete", "create_time")},
        "model": model["name"],
        "url": model["url"],
        "simulated": model["simulated"],
    }


def _comparison(
    at: int, reports: tuple[Document, Document], joined: Sequence[Joined], wish: ComparisonWish
) -> dict[str, Any]:
    a, b = ([one["name"] for one in report["benchmarks"]] for report in reports)
    return {
        "run": at,
        "differs": run_differences(*reports),
        "warnings": [*_doubtful(*reports), *_uncommon(joined)],
        "benchmarks": [_benchmark(one, wish) for one in joined],
        "only_in_a": [name for name in a if name not in b],
        "only_in_b": [name for name in b if name not in a],
    }


def _doubtful(*reports: Document) -> Iterator[str]:
    if reports[0]["run"]["id"] == reports[1]["run"]["id"]:
        yield "A and B are one and the same run."
    for who, run in zip("AB", (report["run"] for report in reports), strict=True):
        if not run["complete"]:
            yield f"{who} ({run['id']}) is not complete ({run['state']}): what is missing may be no random choice."


def _uncommon(joined: Sequence[Joined]) -> Iterator[str]:
    for one in joined:
        yield from (f"{warning}." for warning in one.warnings)
        pairs = one.pairs
        if pairs.only_a or pairs.only_b:
            yield (
                f"{one.name}: the {pairs.common:,} samples of both runs are compared; {pairs.only_a:,} are in A alone, "
                f"{pairs.only_b:,} in B alone."
            )


def _benchmark(one: Joined, wish: ComparisonWish) -> dict[str, Any]:
    compared = {rule.name for rule in one.rules}
    return {
        "name": one.name,
        "title": one.a.get("title", ""),
        "n_samples": {"common": one.pairs.common, "only_a": one.pairs.only_a, "only_b": one.pairs.only_b},
        "without_score": "zero" if one.zero else "left_out",
        "differs": benchmark_differences(one.a, one.b),
        "metrics": _metrics(one, wish, ""),
        "subsets": [{"name": subset, "metrics": _metrics(one, wish, subset)} for subset in one.pairs.subsets],
        "not_compared": [m["name"] for m in one.a["metrics"] if wish.all_metrics and m["name"] not in compared],
    }


def _metrics(one: Joined, wish: ComparisonWish, subset: str) -> list[dict[str, Any]]:
    found = []
    for at, rule in enumerate(one.rules):
        names = {rule.name, ""} if at == 0 else {rule.name}
        judged = (at == 0 and not subset) or any((one.name, subset, name) in wish.judged for name in names)
        compared = one.pairs.compared(at, subset or None)
        found.append(_metric(rule.name, compared, upward=one.upward.get(rule.name, True), judged=judged))
    return found


def _metric(name: str, compared: Compared, *, upward: bool, judged: bool) -> dict[str, Any]:
    effect, left_out = compared.effect, compared.left_out
    higher, lower = (effect.higher, effect.lower) if effect else (0, 0)
    return {
        "name": name,
        "higher_is_better": upward,
        "judged": judged,
        **{field: getattr(effect, field, None) for field in _EFFECT},
        "n": effect.n if effect else 0,
        "wins": higher if upward else lower,
        "ties": effect.n - higher - lower if effect else 0,
        "losses": lower if upward else higher,
        "left_out": {"a": left_out.a, "b": left_out.b, "both": left_out.both},
        "bounds": compared.bounds,
        "p_corrected": None,
        "verdict": "inconclusive" if judged else None,
    }


def _judge(judged: Sequence[dict[str, Any]]) -> None:
    """One family: whatever was compared, one false alarm in twenty comparisons at most."""
    known = [metric for metric in judged if metric["p_value"] is not None]
    for metric, corrected in zip(known, holm([metric["p_value"] for metric in known]), strict=True):
        metric["p_corrected"] = corrected
        metric["verdict"] = verdict(metric["difference"], corrected, higher_is_better=metric["higher_is_better"])


def _matrix(sources: Sequence[Source], comparisons: Sequence[Document], wish: ComparisonWish) -> list[dict[str, Any]]:
    """Every two runs by their primary metrics: a family of its own."""
    primary = replace(wish, all_metrics=False, judged=frozenset())
    found: list[dict[str, Any]] = []
    for a, b in combinations(range(len(sources)), 2):
        if a == 0:
            compared = {one["name"]: dict(one["metrics"][0]) for one in comparisons[b - 1]["benchmarks"]}
        else:
            compared = _primaries(sources[a], sources[b], primary)
        found.append({"a": a, "b": b, "benchmarks": compared})
    _judge([metric for one in found for metric in one["benchmarks"].values()])
    for one in found:
        metrics = one["benchmarks"].values()
        differences = [metric["difference"] for metric in metrics if metric["difference"] is not None]
        one["mean_difference"] = fsum(differences) / len(differences) if differences else None
        one |= {
            word: sum(metric["verdict"] == word for metric in metrics) for word in ("better", "worse", "inconclusive")
        }
        one["benchmarks"] = [
            {"name": name, **{field: metric[field] for field in ("difference", "p_corrected", "verdict")}}
            for name, metric in one["benchmarks"].items()
        ]
    return found


def _primaries(a: Source, b: Source, wish: ComparisonWish) -> dict[str, dict[str, Any]]:
    try:
        return {one.name: _metrics(one, wish, "")[0] for one in join_runs(a, b, wish)}
    except InvalidInput:
        return {}  # each is like the baseline, and they have nothing in common with one another
