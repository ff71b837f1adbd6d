"""What a benchmark needs against what an endpoint has: refused by name, and only for what is known to be missing."""

import pytest

from evalmesh.benchmarks.registry import all_benchmarks
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Capabilities, Needs
from evalmesh.domain.run import ModelSpec
from evalmesh.wire.runs.needs import (
    capabilities_from_proto,
    capabilities_to_proto,
    check_needs,
    needs_from_proto,
    needs_to_proto,
)

CHAT = frozenset({"chat"})
FULL = Capabilities(
    frozenset({"chat", "completion", "loglikelihood"}),
    seed=False,
    modalities=frozenset({"text", "image"}),
    logprobs=True,
    tools=False,
    max_context_tokens=4096,
    preferred_batch=32,
)
PICTURES = Needs("x", "chat", frozenset({"text", "image"}), tools=True, context_tokens=100)


def test_nothing_is_lost_on_the_wire():
    assert capabilities_from_proto(capabilities_to_proto("m", FULL)) == FULL
    assert capabilities_from_proto(capabilities_to_proto("m", Capabilities(CHAT))) == Capabilities(CHAT)
    for needs in (PICTURES, Needs("y", "loglikelihood", logprobs=True)):
        assert needs_from_proto(needs_to_proto(needs)) == needs


@pytest.mark.parametrize(
    ("needs", "has", "words"),
    [
        (Needs("x", "completion"), Capabilities(CHAT), ["x", "completion requests", "serves chat", "--request-kind"]),
        (Needs("x", "loglikelihood"), Capabilities(CHAT), ["x", "loglikelihood requests", "leave the benchmark out"]),
        (PICTURES, Capabilities(CHAT, modalities=frozenset({"text"})), ["image, text in its prompts", "takes text"]),
        (PICTURES, Capabilities(CHAT, tools=False), ["tool calls", "makes none"]),
        (Needs("x", "chat", logprobs=True), Capabilities(CHAT, logprobs=False), ["log probabilities", "gives none"]),
        (PICTURES, Capabilities(CHAT, max_context_tokens=100), ["100 tokens", "holds 100 tokens in all"]),
    ],
)
def test_what_is_missing_is_named_with_what_there_is(needs, has, words):
    with pytest.raises(InvalidInput) as refused:
        check_needs(ModelSpec("m"), [Needs("fine", "chat"), needs], has)
    assert all(word in refused.value.message for word in ["m", *words]), refused.value.message
    assert refused.value.details["benchmark"] == "x"


def test_what_is_not_known_refuses_nothing():
    check_needs(ModelSpec("m"), [PICTURES, Needs("y", "chat", logprobs=True, context_tokens=10**9)], Capabilities(CHAT))


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_every_benchmark_is_asked_in_the_kind_of_the_model(kind):
    others = {
        benchmark.name: found for benchmark in all_benchmarks() if (found := benchmark.needs(kind, 10).kind) != kind
    }
    assert others == {"wikitext": "loglikelihood"}
