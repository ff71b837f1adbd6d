"""Two load tests of one server show a change in at most one pair of twenty; real changes are found all the same.

Each document is computed from records, with latencies as servers have them: long tails, and neighbours that are late
together. Pairs share documents, which leaves the expected share of false alarms what it is and saves most of the time.
"""

from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from tests.kit.load_levels import inputs, records

from evalmesh.domain.load_test import LoadLevel
from evalmesh.load.measure.compare import compare
from evalmesh.load.measure.figures import build_level
from evalmesh.load.objective.slo import parse_slo

COMPARISONS = 1000
PARALLELS = (4, 8, 16)
SLO = parse_slo("ttft:p95:250ms")


@dataclass(frozen=True)
class Kind:
    """A server under closed load: log-normal and Pareto-tailed times that wander, and some failures."""

    stays_alike: float
    """Correlation of the wandering part between one request of a slot and its next."""
    sigma: float = 0.4
    tail: float = 0.03
    """Share of requests that stalled, by a Pareto factor."""
    failures: float = 0.01


KINDS = {
    "independent": Kind(0.0),
    "wandering": Kind(0.8),
    "wandering far": Kind(0.9, sigma=0.6, tail=0.06, failures=0.03),
}


def level(kind: Kind, parallel: int, number: int, rng: np.random.Generator, slower: float = 1.0) -> dict[str, Any]:
    rounds = -(-number // parallel)
    together = np.empty(rounds)
    last = rng.standard_normal()
    for at, step in enumerate(rng.standard_normal(rounds)):
        together[at] = last = kind.stays_alike * last + step * np.sqrt(1 - kind.stays_alike**2)
    own = rng.standard_normal((rounds, parallel))
    share = 0.5 if kind.stays_alike else 0.0
    waits = np.exp(kind.sigma * (np.sqrt(share) * together[:, None] + np.sqrt(1 - share) * own))
    waits *= np.where(rng.random(waits.shape) < kind.tail, 1 + rng.pareto(2.2, waits.shape), 1.0)
    tokens = rng.integers(16, 65, waits.shape)
    token_s = 0.01 * np.exp(0.1 * together[:, None] + 0.1 * rng.standard_normal(waits.shape))
    ttft = 0.1 * slower * waits
    took = ttft + (tokens - 1) * token_s
    sent = np.vstack([np.zeros(parallel), np.cumsum(took, axis=0)[:-1]])
    rows = np.stack([sent, sent + ttft, sent + took, tokens], axis=-1).reshape(-1, 4)
    table = records(rows[np.argsort(rows[:, 0], kind="stable")][:number].tolist())
    failed = rng.random(number) < kind.failures
    table["outcome"][failed], table["status"][failed] = 2, 503
    return build_level(inputs(table, LoadLevel(parallel=parallel, number=number), slo=SLO, seconds=()))


def perf(kind: Kind, number: int, rng: np.random.Generator, slower: float = 1.0, repeats: int = 1) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "evalmesh_version": "0.1.0",
        "load_test": {"id": "l", "display_name": "", "create_time": "2026-01-01T00:00:00.000Z"},
        "target": {"url": "http://127.0.0.1/v1", "model": "m", "api": "chat", "stream": True},
        "spec": {},
        "levels": [level(kind, parallel, number, rng, slower) for _ in range(repeats) for parallel in PARALLELS],
    }


def decided(told: dict[str, Any]) -> set[str]:
    return {
        metric["metric"]
        for one in told["levels"]
        for metric in one["metrics"]
        if metric["verdict"] in {"better", "worse"}
    }


@pytest.mark.parametrize(("name", "number"), [("independent", 1000), ("wandering", 500), ("wandering far", 1000)])
def test_equal_servers_show_a_change_in_one_comparison_of_twenty_at_most(name: str, number: int) -> None:
    rng = np.random.default_rng(5)
    documents = [perf(KINDS[name], number, rng) for _ in range(46)]
    pairs = list(combinations(documents, 2))[:COMPARISONS]
    assert len(pairs) == COMPARISONS
    alarms = sum(bool(decided(compare(a, b))) for a, b in pairs)
    assert alarms <= 0.05 * COMPARISONS


def test_so_do_equal_servers_that_were_measured_three_times() -> None:
    rng = np.random.default_rng(7)
    documents = [perf(KINDS["wandering far"], 200, rng, repeats=3) for _ in range(24)]
    pairs = list(combinations(documents, 2))
    assert sum(bool(decided(compare(a, b))) for a, b in pairs) <= 0.05 * len(pairs)


def test_a_first_token_a_quarter_later_is_found_at_two_thousand_requests() -> None:
    rng = np.random.default_rng(5)
    before = [perf(KINDS["independent"], 2000, rng) for _ in range(10)]
    after = [perf(KINDS["independent"], 2000, rng, slower=1.25) for _ in range(10)]
    found = [
        metric["verdict"]
        for a, b in product(before, after)
        for one in compare(a, b)["levels"]
        for metric in one["metrics"]
        if metric["metric"] == "ttft_ms.p50"
    ]
    assert found.count("worse") >= 0.8 * len(found)
    assert "better" not in found


def test_a_tail_of_too_few_requests_is_undecided_and_counts_for_nothing() -> None:
    rng = np.random.default_rng(5)
    a, b = (perf(KINDS["independent"], 300, rng) for _ in range(2))
    told = compare(a, b)
    metrics = [{metric["metric"]: metric for metric in one["metrics"]} for one in told["levels"]]
    assert {one["ttft_ms.p99"]["verdict"] for one in metrics} == {"undecided"}
    assert all(one["ttft_ms.mean"]["verdict"] is None for one in metrics)
    judged = [one for level in metrics for one in level.values() if one["p_value"] is not None]
    assert told["judged"] == len(judged) > 0
    assert not any(one["ttft_ms.p99"]["p_value"] for one in metrics)


def test_requests_that_were_all_late_together_are_mostly_undecided() -> None:
    """Two hundred requests of a server that changes its pace every hundred say what two would."""
    rng = np.random.default_rng(3)
    documents = [perf(Kind(0.97, sigma=0.8), 200, rng) for _ in range(10)]
    verdicts = [
        metric["verdict"]
        for a, b in combinations(documents, 2)
        for one in compare(a, b)["levels"]
        for metric in one["metrics"]
        if metric["metric"] == "ttft_ms.p50"
    ]
    assert verdicts.count("undecided") >= 0.8 * len(verdicts)


def test_sixty_requests_say_that_a_server_became_three_times_as_slow_however_alike_neighbours_are() -> None:
    rng = np.random.default_rng(4)
    kind = Kind(0.95, sigma=0.2)
    before, after = ([perf(kind, 60, rng, slower=slower) for _ in range(6)] for slower in (1.0, 3.0))
    assert max(level["window"]["effective_requests"] for one in before for level in one["levels"]) < 60
    for a, b in product(before, after):
        assert "ttft_ms.p50" in decided(compare(a, b))
        assert compare(a, b)["verdict"] == "worse"
        assert compare(b, a)["verdict"] == "better"


def test_sixty_requests_of_equal_servers_show_a_change_in_one_comparison_of_twenty_at_most() -> None:
    rng = np.random.default_rng(3)
    pairs = list(combinations([perf(Kind(0.95, sigma=0.4), 60, rng) for _ in range(24)], 2))
    assert sum(bool(decided(compare(a, b))) for a, b in pairs) <= 0.05 * len(pairs)


def test_twenty_requests_that_all_fail_where_none_did_are_worse() -> None:
    rng = np.random.default_rng(3)
    good, bad = (perf(Kind(0.0, failures=share), 20, rng) for share in (0.0, 1.0))
    metrics = {one["metric"]: one["verdict"] for level in compare(good, bad)["levels"] for one in level["metrics"]}
    assert metrics["error_rate"] == "worse"
