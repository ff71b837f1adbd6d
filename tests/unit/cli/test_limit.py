"""One rule says what a limit is, whoever is asked."""

import pytest

from evalmesh import TaskConfig
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.cli.eval.spec import to_run_spec
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.limit import parse_limit
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.wire.runs.checks import check_spec

BASE = {"model": "m", "api_url": "http://h:8000/v1", "datasets": ["gsm8k"]}
WRONG = [0, -3, 0.0, 1.0, 1.5, 5.0, True, float("nan"), float("inf"), 2**63]


def spec(limit=None, of_benchmark=None):
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec("gsm8k", limit=of_benchmark),), limit=limit)


@pytest.mark.parametrize("limit", WRONG)
@pytest.mark.parametrize(
    "ask",
    [
        lambda limit: TaskConfig(**BASE, limit=limit),
        lambda limit: to_run_spec(TaskConfig(**BASE, dataset_args={"gsm8k": {"limit": limit}})),
        lambda limit: check_spec(spec(limit)),
        lambda limit: check_spec(spec(None, limit)),
        lambda limit: validate_spec(registry.get("gsm8k"), BenchmarkSpec("gsm8k", limit=limit)),
    ],
    ids=["config", "dataset_args", "run", "benchmark of a run", "benchmark"],
)
def test_what_is_no_limit_is_refused_everywhere_with_the_same_sentence(ask, limit):
    with pytest.raises(
        InvalidInput, match=r"limit: .* is not allowed; use a count of samples per subset like 5"
    ) as error:
        ask(limit)
    assert error.value.details["field"].endswith("limit")


@pytest.mark.parametrize(("text", "limit"), [("5", 5), (" 0.1 ", 0.1), (7, 7), (0.001, 0.001), (10**9, 10**9)])
def test_counts_and_fractions_are_limits(text, limit):
    found = parse_limit(text, "limit")
    assert (found, type(found)) == (limit, type(limit))
    check_spec(spec(limit, limit))


@pytest.mark.parametrize("text", ["1.0", "all", "", [5]])
def test_text_that_is_no_limit_is_refused(text):
    with pytest.raises(InvalidInput, match="limit: "):
        TaskConfig(**BASE, limit=text)
