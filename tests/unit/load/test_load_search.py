"""The search against a simulated server whose truth is known: 32 slots, TTFT 100 ms, 16 to 48 tokens of 10 ms."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.kit.load_levels import Server, closed, inputs, open_loop

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadLevel, SearchSpec
from evalmesh.load.measure.figures import build_level
from evalmesh.load.objective.probes import Estimate, Observation, observe, verdict_of
from evalmesh.load.objective.search import Probe, Search, SearchAnswer, observations, probe_level
from evalmesh.load.objective.slo import parse_slo

SLO = parse_slo("ttft:p95:200ms")
SERVER = Server()
TRUE_PARALLEL = 36
"""p95 of TTFT over 600 s: 190 ms at 36 in flight, 210 ms at 37."""
TRUE_RATE = 67.0
"""Likewise, over 1000 s, from the due time: 185 ms at 66 per second, 209 ms at 68."""


def simulated(spec: SearchSpec, seed: int, server: Server = SERVER) -> tuple[SearchAnswer, list[dict]]:
    documents: list[dict] = []
    while True:
        step = Search(spec).next(observations(documents, spec.variable))
        if isinstance(step, SearchAnswer):
            return step, documents
        level = probe_level(LoadLevel(), spec.variable, step)
        rng = np.random.default_rng(seed * 1000 + len(documents))
        if spec.variable == "parallel":
            table = closed(server, level.parallel, duration_s=level.duration_s, seed=seed * 1000 + len(documents))
        else:
            due = np.cumsum(rng.exponential(1 / level.rate, int(level.rate * level.duration_s * 2 + 50)))
            table = open_loop(server, due[due < level.duration_s], seed=seed * 1000 + len(documents))
        documents.append(build_level(inputs(table, level, index=len(documents), slo=SLO, role="probe", seconds=())))


def seconds(documents: list[dict]) -> float:
    """What it takes: load, emptying, and 0.1 s between probes (0.06 s were measured)."""
    return sum(document["wall_s"] + 0.1 for document in documents)


@pytest.mark.parametrize("seed", range(20))
def test_the_highest_concurrency_is_found_to_one_within_a_minute(seed: int) -> None:
    answer, documents = simulated(SearchSpec("parallel"), seed)
    assert answer.state == "found"
    assert answer.value is not None
    assert abs(answer.value - TRUE_PARALLEL) <= 1
    assert answer.bracket == (answer.value, answer.value + 1)
    assert seconds(documents) <= 60
    told = answer.document()
    assert {index for one in told["evidence"] for index in one["levels"]} == set(range(len(documents)))
    assert "at most one" in told["stop_rule"]


def test_the_highest_rate_is_found_about_right() -> None:
    """Short probes of a random process: a single answer is within a sixth, their median within the resolution."""
    searches = [simulated(SearchSpec("rate"), seed) for seed in range(20)]
    answers = [answer for answer, _ in searches]
    values = [answer.value or 0.0 for answer in answers]
    assert all(abs(value / TRUE_RATE - 1) < 0.17 for value in values)
    assert abs(float(np.median(values)) / TRUE_RATE - 1) < 0.05
    assert all(("no interval decides it" in answer.note) == (answer.by == "estimate") for answer in answers)
    assert float(np.median([seconds(documents) for _, documents in searches])) <= 50
    assert max(seconds(documents) for _, documents in searches) <= 75


def test_probes_are_longer_where_answers_take_long() -> None:
    """Answers of 5 to 15 s: in 4 s none comes, and no queue forms at any rate. 1.06 per second is right."""
    slow = Server(slots=16, ttft_s=0.1, token_s=0.05, low=100, high=300)
    for variable, truth, off in (("parallel", 16, 1), ("rate", 1.06, 0.4)):
        answer, documents = simulated(SearchSpec(variable, low=1 if variable == "parallel" else 0.1), 3, slow)
        assert answer.value is not None
        assert abs(answer.value - truth) <= off
        assert all(document["level_duration_s"] > 15 for document in documents[1:])


# Servers that are told in one line: what a probe at a load shows.

Shows = Callable[[float, int], Observation]


def seen(value: float, level: int, *, passed: bool, **other: object) -> Observation:
    fields = {
        "decision": "met" if passed else "missed",
        "estimates": (Estimate(100.0 if passed else 300.0, 200.0, lower_bound=False),),
        "requests": 500,
        "seconds": 4.0,
        "asked_s": 4.0,
    }
    return Observation(value=value, level=level, **(fields | other))


def walked(spec: SearchSpec, shows: Shows) -> tuple[SearchAnswer, list[Probe], list[Observation]]:
    history: list[Observation] = []
    probes: list[Probe] = []
    for _ in range(100):
        step = Search(spec).next(history)
        if isinstance(step, SearchAnswer):
            return step, probes, history
        probes.append(step)
        history.append(replace(shows(step.value, len(history)), asked_s=step.duration_s))
    raise AssertionError("the search does not end")


def knee(at: float) -> Shows:
    return lambda value, level: seen(value, level, passed=value <= at)


@pytest.mark.parametrize("at", [1, 2, 3, 17, 64, 100])
def test_every_knee_of_a_sharp_server_is_found_exactly(at: int) -> None:
    answer, probes, _ = walked(SearchSpec("parallel", resolution=0.001), knee(at))
    assert (answer.value, answer.bracket, answer.by) == (at, (at, at + 1), "interval")
    assert [probe.value for probe in probes][: min(3, at.bit_length() + 1)] == [1, 2, 4][: at.bit_length() + 1]
    # Bracketing is fast; no load is an end of the bracket before it was seen at full length.
    assert [probe.duration_s for probe in probes if "bracketing" in probe.note] == [2.0] * (at.bit_length())
    assert all(sum(probe.duration_s for probe in probes if probe.value == end) >= 4 for end in answer.bracket)
    twice = [probe.value for probe in probes if probe.note == "once more: at full length"]
    assert len({probe.value for probe in probes}) == len(probes) - len(twice)


@pytest.mark.parametrize("at", [0.3, 7.5, 1234.0])
def test_rates_stop_at_the_resolution(at: float) -> None:
    answer, _, _ = walked(SearchSpec("rate", low=0.1, resolution=0.02), knee(at))
    low, high = answer.bracket
    assert low is not None
    assert high is not None
    assert low <= at < high <= low * 1.0201
    assert "2% wide" in answer.stop_rule


def test_wide_steps_are_made_while_probes_are_too_small_to_decide() -> None:
    def shows(value: float, level: int) -> Observation:
        return seen(value, level, passed=value <= 100, requests=int(value * 10))

    _, probes, _ = walked(SearchSpec("parallel"), shows)
    assert [probe.value for probe in probes][:6] == [1, 4, 16, 32, 64, 128]


def test_a_server_that_meets_it_never() -> None:
    answer, probes, _ = walked(SearchSpec("parallel"), knee(0))
    assert (answer.state, answer.value, answer.bracket) == ("none", None, (None, 1.0))
    assert [(probe.value, probe.duration_s) for probe in probes] == [(1, 2.0), (1, 4.0)]
    assert "Not even 1" in answer.stop_rule


def test_the_upper_bound_is_kept() -> None:
    answer, probes, _ = walked(SearchSpec("parallel", high=50), knee(1e9))
    assert (answer.state, answer.value, answer.bracket) == ("found", 50, (50, None))
    assert max(probe.value for probe in probes) == 50
    assert answer.stop_rule == "The highest load allowed, 50, meets the objective."


def test_an_end_that_only_the_estimate_decides_is_not_called_met() -> None:
    def shows(value: float, level: int) -> Observation:
        return seen(value, level, passed=True, decision="undecided")

    answer, _, _ = walked(SearchSpec("parallel", high=4), shows)
    assert answer.stop_rule.startswith("The highest load allowed, 4, was taken as meeting")


def test_the_time_is_kept() -> None:
    answer, _, history = walked(SearchSpec("parallel", max_s=20), knee(1e9))
    assert (answer.state, answer.value) == ("unfinished", 16)
    assert sum(one.seconds for one in history) == 20
    assert answer.stop_rule == "The search ended after 20 s."


def test_undecided_ends_get_more_time_and_then_the_estimate_decides() -> None:
    def shows(value: float, level: int) -> Observation:
        told = seen(value, level, passed=value <= 36)
        return seen(value, level, passed=value <= 36, decision="undecided") if 30 < value < 42 else told

    answer, probes, _ = walked(SearchSpec("parallel", low=32), shows)
    assert (answer.value, answer.by) == (36, "estimate")
    again = [(probe.value, probe.duration_s) for probe in probes if probe.note.startswith("once more")]
    assert again == [(36, 8.0), (37, 4.0)]
    assert "36 met the objective by its estimate" in answer.note


def test_more_time_can_turn_an_end_over() -> None:
    """36 looks good at first and fails when it is given time: the search goes on below."""
    times: dict[float, int] = {}

    def shows(value: float, level: int) -> Observation:
        times[value] = times.get(value, 0) + 1
        if value == 36:
            first = times[value] == 1
            return seen(value, level, passed=first, decision="undecided" if first else "missed")
        return seen(value, level, passed=value <= 34)

    answer, _, _ = walked(SearchSpec("parallel", low=32), shows)
    assert (answer.value, answer.bracket) == (34, (34, 35))


def test_a_long_search_makes_less_sure() -> None:
    """After 40 s the answer alone is confirmed, by one probe more: ends near the limit could turn over for ever."""

    def undecided(value: float, level: int) -> Observation:
        return seen(value, level, passed=value <= 300, decision="undecided")

    answer, probes, _ = walked(SearchSpec("parallel", resolution=0.001), undecided)
    assert (answer.value, answer.by) == (300, "estimate")
    again = [(probe.value, probe.duration_s) for probe in probes if "does not decide" in probe.note]
    assert again == [(300, 4.0)]


def test_results_that_contradict_each_other_are_tried_again() -> None:
    history = [seen(8, 0, passed=True), seen(16, 1, passed=False), seen(32, 2, passed=True), seen(64, 3, passed=False)]
    step = Search(SearchSpec("parallel", low=8)).next(history)
    assert isinstance(step, Probe)
    assert step.value == 16
    step = Search(SearchSpec("parallel", low=8)).next([*history, seen(16, 4, passed=True)])
    assert isinstance(step, Probe)  # 16 is now taken by its estimate, which fails: 32 as well
    history += [seen(16, 4, passed=False), seen(32, 5, passed=True)]
    answer, _, _ = walked_from(history, knee(12))
    assert answer.value == 12
    assert "the lower one counts" in answer.note


def walked_from(history: list[Observation], shows: Shows) -> tuple[SearchAnswer, list[Probe], list[Observation]]:
    spec = SearchSpec("parallel", low=8)
    seen_so_far, probes = list(history), []
    for _ in range(100):
        step = Search(spec).next(seen_so_far)
        if isinstance(step, SearchAnswer):
            return step, probes, seen_so_far
        probes.append(step)
        seen_so_far.append(replace(shows(step.value, len(seen_so_far)), asked_s=step.duration_s))
    raise AssertionError("the search does not end")


def test_a_client_that_can_offer_no_more_bounds_the_answer() -> None:
    def shows(value: float, level: int) -> Observation:
        return seen(value, level, passed=value <= 100, client_limited=value > 50)

    answer, _, _ = walked(SearchSpec("parallel"), shows)
    assert answer.client_limited is True
    assert answer.bracket == (50, 52)
    assert "Client-limited, at least 50" in answer.note
    assert {one["value"] for one in answer.document()["evidence"] if one["by"] == "client"} == {52, 56, 64}


def test_nothing_is_said_of_a_server_that_the_client_could_not_load() -> None:
    answer, probes, _ = walked(
        SearchSpec("parallel"), lambda value, level: seen(value, level, passed=False, client_limited=True)
    )
    assert [probe.value for probe in probes] == [1, 1]
    assert (answer.state, answer.value, answer.bracket, answer.client_limited) == ("unfinished", None, (None, 1), True)
    assert "Not even" not in answer.stop_rule
    assert "at 1, the lowest load, is not known: the load generator was the bottleneck" in answer.stop_rule
    assert answer.note == "Client-limited: at 1 the load generator was the bottleneck."


def test_one_hiccup_of_the_client_is_no_bound() -> None:
    """It is tried again at once: a bisection below it would have been for nothing."""

    def shows(value: float, level: int) -> Observation:
        return seen(value, level, passed=value <= 10, client_limited=level == 4)

    answer, probes, _ = walked(SearchSpec("parallel"), shows)
    assert (answer.value, answer.client_limited) == (10, False)
    assert [probe.value for probe in probes[:6]] == [1, 2, 4, 8, 16, 16]


def test_repeats_are_made_and_pooled() -> None:
    _, probes, history = walked(SearchSpec("parallel", repeats=2), knee(3))
    assert [probe.value for probe in probes[:4]] == [1, 1, 2, 2]
    short = [probe.value for probe in probes if probe.note == "once more: at full length"]
    assert len(history) - len(short) == 2 * len({one.value for one in history})


def test_a_growing_queue_passes_nothing() -> None:
    answer, _, _ = walked(
        SearchSpec("rate"),
        lambda value, level: seen(value, level, passed=True, decision="undecided", growing=value > 9),
    )
    assert answer.value is not None
    assert answer.value <= 9


def test_a_server_that_refuses_what_it_cannot_do_meets_no_objective_of_latencies_alone() -> None:
    """Its successes are quick; users do not only want those."""
    document = {
        "slo": {
            "decision": "undecided",
            "terms": [{"metric": "ttft", "value": 40.0, "limit": 200.0}],
        },
        "window": {"drift": None, "requests": 200},
        "error_rate": 0.6,
        "requests": 200,
        "ok": 80,
        "parallel": 64,
        "index": 3,
        "wall_s": 4.0,
        "level_duration_s": 4.0,
        "client_limited": False,
        "e2e_ms": {"p50": 300.0},
    }

    def passed(document: dict[str, object]) -> bool | None:
        return verdict_of(64, [observe(document, "parallel")]).passed

    assert passed(document) is False
    bounded = {"metric": "error_rate", "value": 0.6, "limit": 0.7}
    asked = {**document["slo"], "terms": [*document["slo"]["terms"], bounded]}
    assert passed({**document, "slo": asked}) is True
    assert passed({**document, "error_rate": 0.005}) is True


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="are no range"):
        Search(SearchSpec("rate", low=0))
    with pytest.raises(InvalidInput, match="are no range"):
        Search(SearchSpec("rate", low=5, high=2))


def test_a_search_needs_an_objective() -> None:
    document = build_level(inputs(closed(Server(), 4, 100), LoadLevel(parallel=4)))
    with pytest.raises(InvalidInput, match="nothing to search for"):
        observations([document], "parallel")
