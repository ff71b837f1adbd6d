"""Two runs, joined benchmark by benchmark: what cannot be compared is refused by saying what differs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.rules import metric_rules
from evalmesh.domain.comparison import ComparisonWish
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.results.comparing.flips import result_columns, sample_at
from evalmesh.results.comparing.likeness import Document, benchmark_differences, kind_of, unlike_scoring
from evalmesh.results.comparing.pairing import Pairs, pair
from evalmesh.results.comparing.sampled import Codes, Reading
from evalmesh.results.table import SCORE_PREFIX
from evalmesh.scoring.tally import MetricRule


@dataclass(frozen=True, slots=True)
class Source:
    """A run that is over, wherever it lies."""

    report: Document
    open: Callable[[str], BinaryIO]
    """The results file of a benchmark. Raises `NotFound`."""

    @property
    def benchmarks(self) -> dict[str, Any]:
        """What the report says of each, by name."""
        return {one["name"]: one for one in self.report["benchmarks"]}


@dataclass(frozen=True, slots=True)
class Joined:
    """One benchmark of two runs."""

    a: Document
    b: Document
    rules: Sequence[MetricRule]
    """The primary metric first."""
    upward: Mapping[str, bool]
    """By metric: whether higher is better; it is where nothing is said."""
    pairs: Pairs
    zero: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the benchmark."""
        return str(self.a["name"])


def join_runs(a: Source, b: Source, wish: ComparisonWish) -> list[Joined]:
    """The benchmarks that both have and that are wished for. Raises `InvalidInput`."""
    ours, theirs = a.benchmarks, b.benchmarks
    common = [name for name in ours if name in theirs]
    if unknown := [name for name in wish.benchmarks if name not in common]:
        raise InvalidInput(
            f"datasets: {', '.join(unknown)} is not in both {_id(a)} and {_id(b)}; in both are: "
            f"{', '.join(common) or 'none'}.",
            {"field": "datasets"},
        )
    if not common:
        raise InvalidInput(
            f"{_id(a)} and {_id(b)} have no benchmark in common: the first has {', '.join(ours) or 'none'}, the second "
            f"{', '.join(theirs) or 'none'}."
        )
    names = [name for name in common if not wish.benchmarks or name in wish.benchmarks]
    unlike = {name: list(unlike_scoring(ours[name], theirs[name])) for name in names}
    _refuse((why for reasons in unlike.values() for why in reasons), wish)
    zero = all(side.report["config"]["on_error"] == "zero" for side in (a, b))
    joined = [_join(name, (a, b), wish, zero=zero) for name in names]
    _refuse((why for one in joined for why in one.warnings), wish)
    for one in joined:
        one.warnings.extend(unlike[one.name])
    return joined


def _id(source: Source) -> str:
    return str(source.report["run"]["id"])


def _refuse(reasons: Iterator[str], wish: ComparisonWish) -> None:
    if not wish.force and (found := list(reasons)):
        raise InvalidInput(
            f"These runs are not alike: {'; '.join(found)}. Choose other benchmarks with --datasets, or compare "
            "all the same with --force."
        )


def _join(name: str, sides: tuple[Source, Source], wish: ComparisonWish, *, zero: bool) -> Joined:
    a, b = (side.benchmarks[name] for side in sides)
    with sides[0].open(name) as ours, sides[1].open(name) as theirs:
        rules, upward = _rules(a, b, result_columns(ours) & result_columns(theirs), wish)
        # Digests cover few-shot files and the choice of subsets: where they differ, the samples decide.
        how = Reading(rules, a["dataset_digest"] != b["dataset_digest"], Codes(), Codes())
        pairs = pair(ours, theirs, how, zero=zero)
        if not pairs.common:
            differences = [f"{one['name']} ({one['a']} and {one['b']})" for one in benchmark_differences(a, b)]
            raise InvalidInput(
                f"{name}: no sample is in both runs. What differs: {', '.join(differences) or 'the samples'}."
            )
        joined = Joined(a, b, rules, upward, pairs, zero)
        if pairs.unlike:
            first = sample_at(ours, pairs.first_unlike)
            joined.warnings.append(
                f"{name} has other data: {pairs.unlike:,} of {pairs.common:,} samples of equal ids ask something "
                f"else (first: {first})"
            )
        return joined


def _rules(
    a: Document, b: Document, columns: set[str], wish: ComparisonWish
) -> tuple[list[MetricRule], dict[str, bool]]:
    """How the metrics are made that are wanted and that both runs have, the primary one first."""
    name, primary = a["name"], a["primary_metric"]
    known: dict[str, MetricRule] = {}
    upward: dict[str, bool] = {}
    try:
        spec = BenchmarkSpec(name, extra=(a.get("overrides") or {}).get("extra") or {})
        benchmark = registry.get(kind_of(a)).for_spec(spec)
    except InvalidInput:
        pass  # of a package that is not installed here: the columns say enough
    else:
        known = {rule.name: rule for rule in metric_rules(benchmark, min(a["repeats"], b["repeats"]))}
        upward = {one.name: one.higher_is_better for one in benchmark.metrics}
    scores = [column.removeprefix(SCORE_PREFIX) for column in columns if column.startswith(SCORE_PREFIX)]
    if primary not in known and (primary in scores or len(scores) == 1):
        known[primary] = MetricRule(primary, primary if primary in scores else scores[0])
    if primary not in known:
        raise InvalidInput(
            f"{name}: nothing here says how {primary} is made of scores; install the package that brings {name}."
        )
    theirs = {metric["name"] for metric in b["metrics"]}
    judged = {metric for benchmark_name, _, metric in wish.judged if benchmark_name == name}
    others = [one["name"] for one in a["metrics"] if one["name"] in theirs and one["name"] != primary]
    # A perplexity is compared by its bits, which are a metric beside it: differences of bits add up.
    wanted = [
        one
        for one in others
        if one in known and known[one].kind != "perplexity" and (wish.all_metrics or one in judged)
    ]
    return [known[primary], *(known[one] for one in wanted)], upward
