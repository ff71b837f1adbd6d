import itertools

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark, DatasetInfo, NumberedRow
from evalmesh.benchmarks.rows import lettered_columns
from evalmesh.benchmarks.samples import MalformedRow, RowSource, choose_shots, iter_samples, limit_count
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample

BENCHMARK = Benchmark(
    name="toy",
    version=1,
    title="Toy",
    description="",
    dataset=DatasetInfo(),
    shape=MultipleChoice(),
    to_sample=lettered_columns,
    few_shot_split="dev",
    few_shot_num=2,
)

ONE_OPTION = "columns 'A' and 'B' must both hold an option: 'B' missing (there are: question, A, answer)"


def source(count, broken=()):
    def rows():
        for index in range(count):
            if index in broken:
                yield NumberedRow(index, f"line {index + 1} is not valid JSON")
            else:
                yield NumberedRow(index, {"question": f"Q{index}", "A": "yes", "B": "no", "answer": "B"})

    return RowSource(rows)


def take(count=10, limit=None, seed=1, broken=(), **wishes):
    spec = BenchmarkSpec("toy", **wishes)
    return list(iter_samples(BENCHMARK, spec, source(count, broken), "default", limit, seed))


def indices(samples):
    return [sample.index for sample in samples]


@pytest.mark.parametrize(
    ("limit", "total", "expected"),
    [
        (None, 7, 7),
        (3, 7, 3),
        (9, 7, 7),
        (0.5, 7, 4),
        (0.1, 30, 3),
        (0.01, 30, 1),
        (0.3, 10, 3),
        (0.7, 10, 7),
        (1.0, 7, 7),
        (0.5, 0, 0),
    ],
)
def test_a_limit_is_a_count_or_a_fraction_rounded_up(limit, total, expected):
    assert limit_count(limit, total) == expected
    assert len(take(total, limit)) == expected


def test_a_limit_takes_the_first_rows():
    assert indices(take(limit=3)) == [0, 1, 2]
    assert indices(take(limit=0.25)) == [0, 1, 2]


def test_the_benchmarks_limit_goes_before_the_runs():
    assert indices(take(limit=3)) == [0, 1, 2]
    spec = BenchmarkSpec("toy", limit=5)
    assert len(list(iter_samples(BENCHMARK, spec, source(10), "default", 3, 1))) == 5


def test_shuffling_changes_which_rows_a_limit_takes_and_repeats_with_the_seed():
    first = indices(take(1000, limit=50, seed=1, shuffle=True))
    assert len(first) == 50
    assert first == sorted(first)
    assert first != list(range(50))
    assert first == indices(take(1000, limit=50, seed=1, shuffle=True))
    assert first != indices(take(1000, limit=50, seed=2, shuffle=True))
    assert indices(take(10, shuffle=True)) == list(range(10))


def test_every_row_is_equally_likely_to_be_taken():
    counts = [0] * 10
    for seed in range(2000):
        for index in indices(take(10, limit=3, seed=seed, shuffle=True)):
            counts[index] += 1
    assert all(500 < count < 700 for count in counts)


def test_a_malformed_row_counts_and_says_why():
    found = take(5, limit=3, broken=(1,))
    assert found[1] == MalformedRow("default", 1, "line 2 is not valid JSON")
    assert str(found[1]) == "default/1: line 2 is not valid JSON"
    assert indices(found) == [0, 1, 2]


@pytest.mark.parametrize(
    ("benchmark", "row", "reason"),
    [
        ("toy", {"A": "x", "B": "y", "answer": "A"}, "column 'question' is missing (there are: A, B, answer)"),
        ("toy", {"question": " ", "A": "x", "B": "y", "answer": "A"}, "column 'question' is empty"),
        (
            "toy",
            {"question": ["x"], "A": "x", "B": "y", "answer": "A"},
            "column 'question' holds a list, expected text",
        ),
        ("toy", {"question": "q", "A": "x", "answer": "A"}, ONE_OPTION),
        (
            "toy",
            {"question": "q", "A": "x", "B": "", "C": "z", "answer": "A"},
            "column 'B' is empty although 'C' holds an option",
        ),
        (
            "toy",
            {"question": "q", "A": "x", "B": "y", "answer": "C"},
            "column 'answer' is 'C', expected one letter of A, B",
        ),
        ("gsm8k", {"question": "q", "answer": "18"}, "column 'answer' has no '#### N' at its end"),
        ("gsm8k", {"question": "q", "answer": "so\n####  "}, "column 'answer' has no '#### N' at its end"),
        ("arc", {"question": "q", "choices": ["x"]}, "column 'choices' must hold an object with 'text' and 'label'"),
        (
            "arc",
            {"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "E"},
            "column 'answerKey' is 'E', the 2 options are labelled A, B",
        ),
        (
            "mmlu",
            {"question": "q", "choices": ["x", "y"], "answer": 2},
            "column 'answer' is '2', expected a number from 0 to 1 or a letter",
        ),
        (
            "mmlu",
            {"question": "q", "choices": "x, y", "answer": 1},
            "column 'choices' must hold a list of 2 to 26 options",
        ),
    ],
)
def test_a_row_that_fits_no_sample_is_told_by_column(benchmark, row, reason):
    chosen = BENCHMARK if benchmark == "toy" else registry.get(benchmark)
    (found,) = iter_samples(
        chosen, BenchmarkSpec(chosen.name), RowSource(lambda: iter([NumberedRow(0, row)])), "s", None, 1
    )
    assert found == MalformedRow("s", 0, reason)


def test_a_row_mappers_own_key_error_names_the_column():
    def mapper(row, context):
        return Sample("s/0", 0, "s", row["prompt"], ("A",))

    benchmark = Benchmark("own", 1, "", "", DatasetInfo(), MultipleChoice(), mapper)
    (found,) = iter_samples(
        benchmark, BenchmarkSpec("own"), RowSource(lambda: iter([NumberedRow(0, {"q": 1})])), "s", None, 1
    )
    assert found.reason == "column 'prompt' is missing"


def test_subsets_that_share_a_file_are_told_apart_by_their_column():
    benchmark = registry.get("starter_mcq")
    subjects = ["science", "arts", "cooking", "science", "arts"]
    row = {"question": "q", "choices": ["x", "y"], "answer": "A"}
    rows = [NumberedRow(i, {**row, "subject": s}) for i, s in enumerate(subjects)]
    rows.append(NumberedRow(5, "line 6 is not valid JSON"))
    spec = BenchmarkSpec("starter_mcq")

    def of(subset, spec=spec, limit=None):
        return list(iter_samples(benchmark, spec, RowSource(lambda: iter(rows)), subset, limit, 1))

    assert indices(of("arts")) == [1, 4]
    assert indices(of("arts", limit=0.5)) == [1]
    # Rows of no subset are counted once: in the first one.
    assert indices(of("science")) == [0, 2, 3, 5]
    assert of("science")[1].reason == "column 'subject' names no subset: 'cooking'"
    assert indices(of("arts", BenchmarkSpec("starter_mcq", subsets=("arts",)))) == [1, 2, 4, 5]


def test_shuffled_choices_reach_the_samples():
    plain, mixed = take(50), take(50, shuffle_choices=True)
    assert {sample.target for sample in plain} == {("B",)}
    assert {sample.target for sample in mixed} == {("A",), ("B",)}
    assert all(sample.choices["AB".index(sample.target[0])] == "no" for sample in mixed)


def test_solved_examples_are_the_first_good_rows_or_a_seeded_choice():
    spec = BenchmarkSpec("toy", few_shot_num=3)
    assert indices(choose_shots(BENCHMARK, spec, source(9, broken=(1,)), "default", 1)) == [0, 2, 3]
    random = BenchmarkSpec("toy", few_shot_num=3, few_shot_random=True)
    chosen = [tuple(indices(choose_shots(BENCHMARK, random, source(9), "default", seed))) for seed in range(40)]
    assert all(len(set(one)) == 3 and list(one) == sorted(one) for one in chosen)
    assert len(set(chosen)) > 20
    assert chosen[5] == tuple(indices(choose_shots(BENCHMARK, random, source(9), "default", 5)))
    assert choose_shots(BENCHMARK, BenchmarkSpec("toy", few_shot_num=0), source(0), "default", 1) == ()


def test_too_few_solved_examples_are_an_error_that_says_how_many_there_are():
    message = r"'toy' is to show 2 solved examples .* subset 'default' holds only 1 usable rows; lower few_shot_num"
    with pytest.raises(InvalidInput, match=message):
        choose_shots(BENCHMARK, BenchmarkSpec("toy"), source(2, broken=(0,)), "default", 1)


def test_an_endless_source_is_no_problem_for_a_count():
    def endless():
        row = {"question": "q", "A": "x", "B": "y", "answer": "A"}
        return (NumberedRow(index, row) for index in itertools.count())

    assert len(list(iter_samples(BENCHMARK, BenchmarkSpec("toy"), RowSource(endless), "default", 4, 1))) == 4
