"""Domain values that reports are built from."""

import math
import random

from evalmesh.domain.metric import BenchmarkReport, ErroredSample, Metric, SubsetReport
from evalmesh.domain.plan import BenchmarkPlan
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.stage import PLAIN

CREATED = 1_772_000_000.0


def make_metric(name="acc", value=0.85, n=100, errored=0, unscored=0):
    """A proportion with a plausible error; `value=None`: nothing was scored."""
    if value is None:
        return Metric(name, None, None, None, 0, errored, unscored)
    stderr = math.sqrt(max(value * (1 - value), 0.0) / n)
    interval = (max(0.0, value - 1.96 * stderr), min(1.0, value + 1.96 * stderr))
    total = n + errored + unscored
    bounds = (value * n / total, (value * n + errored + unscored) / total)
    return Metric(name, value, stderr, interval, n, errored, unscored, bounds)


def make_benchmark(name="gsm8k", **changes):
    fields = {
        "version": 1,
        "dataset_digest": "9f" * 32,
        "primary_metric": "acc",
        "n_samples": 100,
        "repeats": 1,
        "metrics": (make_metric(),),
        "subsets": (SubsetReport("main", (make_metric(),)),),
        "usage": {"input_tokens": 61230.0, "output_tokens": 10211.0, "latency_mean_s": 1.271, "latency_p99_s": 3.9},
    }
    return BenchmarkReport(name=name, **(fields | changes))


def make_many_subsets(name="mmlu", count=57, seed=3):
    """A benchmark with subsets in four categories, some with errors."""
    draw = random.Random(seed)
    categories = ("STEM", "Humanities", "Social Sciences", "Other")
    subsets = tuple(
        SubsetReport(
            f"subject_number_{index:02d}" + ("_with_a_very_long_name_indeed" if index == 7 else ""),
            (make_metric(value=draw.uniform(0.3, 0.98), n=draw.randint(80, 300), errored=2 if index == 5 else 0),),
            categories[index % 4],
        )
        for index in range(count)
    )
    by_category = tuple(SubsetReport(c, (make_metric(value=draw.uniform(0.5, 0.9), n=3000),)) for c in categories)
    total = make_metric(value=0.6812, n=14040, errored=2)
    return make_benchmark(
        name, n_samples=14042, metrics=(total,), subsets=subsets, categories=by_category, error_classes={"timeout": 2}
    )


def make_run(state=RunState.SUCCEEDED, **changes):
    model = ModelSpec(name="org/qwen-plus", url="http://127.0.0.1:8801/v1", key_ref="env:API_KEY")
    spec_fields = {"model": model, "benchmarks": (BenchmarkSpec("gsm8k", few_shot_num=4),), "limit": 100}
    spec = RunSpec(**(spec_fields | changes.pop("spec", {})))
    fields = {"create_time": CREATED, "start_time": CREATED + 1, "end_time": CREATED + 95.5}
    return Run(id="r-20260225-abc", spec=spec, state=state, **(fields | changes))


def make_plan(*names):
    return tuple(
        BenchmarkPlan(
            run="r-20260225-abc",
            name=name,
            version=1,
            spec=BenchmarkSpec(name, few_shot_num=4),
            graph=PLAIN,
            pools={"model": "qwen-plus-1"},
            dataset_digest="9f" * 32,
            generation=GenerationConfig(max_tokens=512, temperature=0.0),
            repeats=1,
            shard_size=64,
            scoring_digest="5c" * 32,
        )
        for name in names
    )


def make_errored(count=3):
    reason = "HTTP 500 after 6 tries: upstream connect error or disconnect/reset before headers"
    return tuple(ErroredSample(f"main/{index}", 0, "errored", reason) for index in range(count))
