"""What a client leaves out means the same on every way in: an empty message is the domain's defaults."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import pytest

from evalmesh.domain.load_test import (
    ArrivalSpec,
    ImageSpec,
    Lengths,
    LoadLevel,
    LoadTarget,
    LoadTestSpec,
    PromptSpec,
    SearchSpec,
    TurnSpec,
)
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.v1 import load_tests_pb2, models_pb2, runs_pb2
from evalmesh.wire.load_tests import prompts as load_prompts
from evalmesh.wire.load_tests import specs as load_specs
from evalmesh.wire.runs import models, specs


def defaults_of(kind: type) -> dict[str, Any]:
    """By field; those that must be given have none."""
    assert is_dataclass(kind)
    found: dict[str, Any] = {}
    for field in fields(kind):
        if field.default is not MISSING:
            found[field.name] = field.default
        elif field.default_factory is not MISSING:
            found[field.name] = field.default_factory()
    return found


SEARCH = load_tests_pb2.LoadSearch(variable="rate")
CASES = [
    (ModelSpec, models.model_from_proto(models_pb2.ModelSpec())),
    (GenerationConfig, models.generation_from_proto(models_pb2.GenerationConfig())),
    (BenchmarkSpec, specs.benchmark_spec_from_proto(runs_pb2.BenchmarkSpec())),
    (RunSpec, specs._decode_spec(runs_pb2.RunSpec())),
    (LoadTestSpec, load_specs._decode_spec(load_tests_pb2.LoadTestSpec())),
    (LoadTarget, load_specs.target_from_proto(load_tests_pb2.LoadTarget())),
    (LoadLevel, load_specs.level_from_proto(load_tests_pb2.LoadLevel())),
    (ArrivalSpec, load_specs._arrival_from_proto(load_tests_pb2.ArrivalSpec())),
    (SearchSpec, load_specs._search_from_proto(SEARCH)),
    (PromptSpec, load_prompts.prompts_from_proto(load_tests_pb2.PromptSpec())),
    (Lengths, load_prompts._lengths(load_tests_pb2.Lengths(), "input_tokens")),
    (ImageSpec, load_prompts._images(load_tests_pb2.ImageSpec())),
    (TurnSpec, load_prompts._turns(load_tests_pb2.TurnSpec())),
]


@pytest.mark.parametrize(("kind", "decoded"), CASES, ids=[kind.__name__ for kind, _ in CASES])
def test_an_empty_message_has_the_defaults_of_the_domain(kind, decoded):
    wanted = defaults_of(kind)
    assert {name: getattr(decoded, name) for name in wanted} == wanted


def test_what_is_given_as_zero_or_none_is_not_the_default():
    run = specs._decode_spec(runs_pb2.RunSpec(seed=0))
    load = load_specs._decode_spec(load_tests_pb2.LoadTestSpec(seed=0, skip_server_metrics=True))
    assert (run.seed, load.seed, load.server_metrics) == (0, 0, ())
