"""What can be written on the command line, and what it does."""

import argparse
import random
import shlex
import statistics

import pytest

from evalmesh.cli.__main__ import main
from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.cli import add_arguments, settings_from_args
from evalmesh.simulator.distribution import parse_distribution, parse_duration, parse_freeze
from evalmesh.simulator.faults import Fault, FaultPlan, parse_fault


def settings(*argv):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_from_args(parser.parse_args(argv))


def test_flags_become_settings():
    line = (
        "--skill 0.5 --skill gsm8k=0.9 --seed 3 --ttft 200ms --itl lognormal:median=10ms,sigma=0.5 --freeze 1s/5s "
        "--max-concurrency 8 --overload reject --fault 500:every=50 --fault reset:rate=0.02 "
        "--fail-sample gsm8k/main/17 --benchmarks gsm8k arc --output-tokens 64 --awkwardness 1 --api-key k"
    )
    got = settings(
        *shlex.split(line),
        "--dataset-args",
        '{"gsm8k": {"local_path": "x"}}',
    )
    assert (got.skill.default, got.skill.probability("gsm8k"), got.skill.seed) == (0.5, 0.9, 3)
    assert got.ttft.draw(random.Random(0)) == pytest.approx(0.2)
    assert got.faults[0] == Fault("500", sample="gsm8k/main/17")
    assert [fault.kind for fault in got.faults] == ["500", "500", "reset"]
    assert (got.max_concurrency, got.overload, got.style.awkwardness, got.api_key) == (8, "reject", 1.0, "k")
    assert got.dataset_args == {"gsm8k": {"local_path": "x"}}
    assert "'k'" not in repr(got)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--skill", "much"], "gsm8k=0.6"),
        (["--skill", "2"], "from 0 to 1"),
        (["--dataset-args", "[]"], "object of objects"),
        (["--dataset-args", "{"], "no JSON"),
        (["--awkwardness", "3"], "from 0 to 1"),
    ],
)
def test_wrong_flags_are_told_with_a_way_out(argv, message):
    with pytest.raises(InvalidInput, match=message):
        settings(*argv)


def test_wrong_specifications_are_argparse_errors(capsys):
    with pytest.raises(SystemExit):
        settings("--ttft", "200")
    assert "as in 200ms" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("200ms", 0.2), ("1.5s", 1.5), ("2m", 120), ("0", 0), ("10us", 1e-5)])
def test_durations(text, seconds):
    assert parse_duration(text, "ttft") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "median"),
    [
        ("uniform:low=10ms,high=30ms", 0.02),
        ("lognormal:median=200ms,sigma=0.5", 0.2),
        ("exponential:mean=100ms", 0.0693),
        ("pareto:min=100ms,alpha=1.5,max=2s", 0.1587),
        ("bursty:base=5ms,burst=1s,share=0.1", 0.005),
        ("40ms", 0.04),
    ],
)
def test_distributions_have_the_median_they_say(text, median):
    distribution = parse_distribution(text, "ttft")
    rng = random.Random(3)
    draws = [distribution.draw(rng) for _ in range(20_000)]
    assert statistics.median(draws) == pytest.approx(median, rel=0.03)
    assert max(draws) <= distribution.parameters.get("max", 1e9)


@pytest.mark.parametrize(
    "text", ["normal:mean=1s", "uniform:low=1s", "uniform:low=1s,top=2s", "lognormal:median=1s,sigma=x"]
)
def test_distributions_that_make_no_sense_are_refused(text):
    with pytest.raises(InvalidInput, match="itl"):
        parse_distribution(text, "itl")


def test_freeze_is_the_end_of_each_period():
    freeze = parse_freeze("1s/5s")
    assert [freeze.remaining_s(t) for t in (0.0, 3.9, 4.0, 4.75, 5.0)] == [0, 0, 1, 0.25, 0]
    with pytest.raises(InvalidInput):
        parse_freeze("5s/1s")


def test_counted_faults_hit_every_nth_request():
    plan = FaultPlan(0, [parse_fault("500:every=3"), parse_fault("429:every=5,retry_after=2s")])
    kinds = [fault.kind if (fault := plan.decide(n, ("x",), 1)) else "" for n in range(1, 11)]
    assert kinds == ["", "", "500", "", "429", "500", "", "", "500", "429"]


def test_faults_by_rate_repeat_and_differ_between_tries():
    plan = FaultPlan(5, [parse_fault("reset:rate=0.1")])

    def hits(tries):
        return {i for i in range(2000) if plan.decide(i + 1, (f"gsm8k/main/{i}",), tries)}

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert len(hits(1)) == pytest.approx(200, rel=0.25)


def test_faults_by_sample_take_either_name_and_can_pass():
    plan = FaultPlan(0, [parse_fault("500:sample=gsm8k/main/17,tries=2"), parse_fault("stall:sample=main/3")])
    assert [bool(plan.decide(1, ("gsm8k/main/17", "main/17"), n)) for n in (1, 2, 3)] == [True, True, False]
    assert plan.decide(1, ("arc/main/3", "main/3"), 9).kind == "stall"


@pytest.mark.parametrize(
    "text", ["boom:every=1", "500", "200:every=2", "reset:rate=2", "reset:every=x", "500:whom=1,every=2"]
)
def test_faults_that_make_no_sense_are_refused(text):
    with pytest.raises(InvalidInput, match="fault"):
        parse_fault(text)


@pytest.mark.parametrize(
    "flag",
    [
        "--truth=-5", "--template-tokens=-1", "--max-body-bytes=0", "--max-concurrency=-1", "--cached-share=3",
        "--kv-tokens=0", "--awkwardness=2", "--tokens-per-chunk=0",
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_told_by_its_flag(flag, capsys):
    assert main(["simulate", "--port", "0", flag]) == 2
    name, _, value = flag.partition("=")
    assert capsys.readouterr().err.startswith(f"evalmesh: {name}: {value}")
