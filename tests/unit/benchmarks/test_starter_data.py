"""The rows that ship with the package."""

from collections import Counter

import pytest

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.query import query_for
from evalmesh.benchmarks.samples import RowSource, iter_samples
from evalmesh.domain.completion import Completion
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample


def load(name):
    benchmark, spec, source = registry.get(name), BenchmarkSpec(name), LocalDatasets()
    samples = []
    for subset in benchmark.subsets or ("default",):
        files = source.resolve(query_for(benchmark, spec, subset))
        samples += iter_samples(benchmark, spec, RowSource(lambda files=files: source.rows(files)), subset, None, 1)
    assert all(isinstance(sample, Sample) for sample in samples)
    return benchmark, samples


@pytest.mark.parametrize("name", ["starter_math", "starter_mcq"])
def test_there_are_enough_questions_and_none_twice(name):
    _, samples = load(name)
    assert len(samples) >= 120
    assert len({sample.input for sample in samples}) == len(samples)
    assert len({sample.id for sample in samples}) == len(samples)


def test_each_solution_ends_in_the_answer_and_scores_as_right():
    benchmark, samples = load("starter_math")
    for sample in samples:
        assert float(sample.target[0]) > 0
        text = f"{sample.metadata['solution']}\nThe result is \\boxed{{{sample.target[0]}}}."
        assert benchmark.shape.score_fast(sample, Completion(sample.id, 0, "d", text=text)).values["accuracy"] == 1


def test_letters_are_balanced_and_options_differ():
    _, samples = load("starter_mcq")
    letters = Counter(sample.target[0] for sample in samples)
    assert set(letters) == set("ABCD")
    assert max(letters.values()) - min(letters.values()) <= 1
    assert all(len(set(sample.choices)) == 4 for sample in samples)
    assert min(Counter(sample.subset for sample in samples).values()) >= 20
