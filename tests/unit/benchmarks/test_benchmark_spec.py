import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import selected_subsets, validate_spec
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec

REFUSED = [
    (
        "mmlu",
        {"subsets": ("anatmy",)},
        "benchmarks.mmlu.subsets",
        "benchmarks.mmlu.subsets = 'anatmy' is not a subset of mmlu. Did you mean 'anatomy'?",
    ),
    (
        "arc",
        {"subsets": ("zzz",)},
        "benchmarks.arc.subsets",
        "benchmarks.arc.subsets = 'zzz' is not a subset of arc. Known are: ARC-Challenge, ARC-Easy.",
    ),
    ("arc", {"subsets": ()}, "benchmarks.arc.subsets", "must name at least one subset, and none twice."),
    ("mmlu", {"few_shot_num": 6}, "benchmarks.mmlu.few_shot_num", "= 6 must be from 0 to 5."),
    ("gsm8k", {"few_shot_num": -1}, "benchmarks.gsm8k.few_shot_num", "= -1 must be from 0 to 64."),
    ("starter_math", {"few_shot_num": 2}, "benchmarks.starter_math.few_shot_num", "must be 0: this benchmark has no"),
    ("gsm8k", {"few_shot_split": "test"}, "benchmarks.gsm8k.few_shot_split", "is also the evaluated split"),
    (
        "gsm8k",
        {"prompt_template": "Do {query}"},
        "benchmarks.gsm8k.prompt_template",
        "= 'Do {query}' must contain {question}; it contains {query}.",
    ),
    (
        "arc",
        {"prompt_template": "Hm"},
        "benchmarks.arc.prompt_template",
        "must contain {question} and {choices}; it contains no placeholder.",
    ),
    (
        "gsm8k",
        {"shuffle_choices": True},
        "benchmarks.gsm8k.shuffle_choices",
        "has no effect here: there are no options.",
    ),
    ("gsm8k", {"limit": 0}, "benchmarks.gsm8k.limit", ": 0 is not allowed; use a count of samples"),
    ("gsm8k", {"remove_until": ""}, "benchmarks.gsm8k.remove_until", "must not be empty"),
    (
        "gsm8k",
        {"extra": {"few_shots_num": 3}},
        "benchmarks.gsm8k.few_shots_num",
        "= 3 is not a setting of this benchmark. Did you mean 'few_shot_num'?",
    ),
    (
        "general_mcq",
        {},
        "benchmarks.general_mcq.local_path",
        "is needed: this benchmark brings no data; name your file",
    ),
]


@pytest.mark.parametrize(("name", "wishes", "field", "message"), REFUSED)
def test_wishes_that_cannot_be_met_are_refused_by_field_and_value(name, wishes, field, message):
    with pytest.raises(InvalidInput) as caught:
        validate_spec(registry.get(name), BenchmarkSpec(name, **wishes))
    assert message in caught.value.message
    assert caught.value.message.startswith(field)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    ("name", "wishes"),
    [
        ("gsm8k", {}),
        ("mmlu", {"subsets": ("anatomy", "virology"), "few_shot_num": 0, "limit": 0.5}),
        ("arc", {"few_shot_num": 3, "few_shot_split": "validation", "shuffle_choices": True}),
        ("arc", {"prompt_template": "{choices} {question} {unknown}"}),
        ("starter_math", {"few_shot_num": 2, "few_shot_split": "dev"}),
        ("general_mcq", {"local_path": "mine.csv", "subsets": ("anything",)}),
    ],
)
def test_wishes_that_can_be_met_pass(name, wishes):
    validate_spec(registry.get(name), BenchmarkSpec(name, **wishes))


def test_subsets_come_from_the_user_then_the_benchmark_then_the_disk():
    arc, own = registry.get("arc"), registry.get("general_mcq")
    assert selected_subsets(arc, BenchmarkSpec("arc")) == ("ARC-Easy", "ARC-Challenge")
    assert selected_subsets(arc, BenchmarkSpec("arc", subsets=("ARC-Easy",))) == ("ARC-Easy",)
    assert selected_subsets(own, BenchmarkSpec("general_mcq")) == ("default",)
    assert selected_subsets(own, BenchmarkSpec("general_mcq"), ("law", "tax")) == ("law", "tax")
    with pytest.raises(InvalidInput, match=r"'lwa' is not a subset of general_mcq. Did you mean 'law'"):
        selected_subsets(own, BenchmarkSpec("general_mcq", subsets=("lwa",)), ("law", "tax"))
