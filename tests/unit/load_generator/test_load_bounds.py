import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, LoadTarget, LoadTestSpec, SearchSpec, Stage
from evalmesh.load_generator.probes.bounds import check_bound

TARGET = LoadTarget("http://h/v1/chat/completions", "m", connection="team")
OPEN = ArrivalSpec("poisson")
STAGES = (Stage(1.0, 1.0, 9.0),)


def spec(level, arrival=OPEN, **more):
    return LoadTestSpec(TARGET, arrival=arrival, levels=(LoadLevel(parallel=1), level), **more)


@pytest.mark.parametrize(
    "within",
    [
        spec(LoadLevel(parallel=8), ArrivalSpec("closed")),
        spec(LoadLevel(parallel=8, rate=100.0)),
        spec(LoadLevel(parallel=8, stages=STAGES)),
        spec(LoadLevel(parallel=4), search=SearchSpec("parallel", high=8)),
    ],
)
def test_a_load_within_what_its_connection_allows(within):
    check_bound(within, 8)


@pytest.mark.parametrize(
    ("beyond", "field"),
    [
        (spec(LoadLevel(parallel=9), ArrivalSpec("closed")), r"levels\[1\]\.parallel"),
        (spec(LoadLevel(rate=1.0)), "no bound"),
        (spec(LoadLevel(stages=STAGES), ArrivalSpec("closed")), r"levels\[1\]\.parallel"),
        (spec(LoadLevel(parallel=4), search=SearchSpec("parallel")), r"search\.high"),
        (spec(LoadLevel(parallel=4), search=SearchSpec("parallel", high=9)), r"search\.high"),
    ],
)
def test_a_load_beyond_it_is_refused_and_any_is_taken_without_a_bound(beyond, field):
    with pytest.raises(InvalidInput, match=field) as caught:
        check_bound(beyond, 8)
    assert "'team'" in caught.value.message
    check_bound(beyond, 0)
