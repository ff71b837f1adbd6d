"""The command line that a report page shows asks for the load test that it reports."""

import shlex
from dataclasses import asdict

import pytest

from evalmesh.cli.flags import parse
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.spec import resolve
from evalmesh.pages.load_tests.again import command

BASE = "--url http://h:8000/v1/chat/completions --model m --dataset random --max-prompt-length 64"
OUTSIDE = {"command", "action", "module", "parser", "config", "count"}


def spec(words):
    args = parse(["perf", *words])
    return resolve(PerfConfig.load(args.config, {k: v for k, v in vars(args).items() if k not in OUTSIDE}))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--parallel 1 8 --number 10 80 --repeats 3 --warmup-num 0.1",
        "--rate 5 10 --duration 30 --open-loop --seed 7",
        "--rate 5 --parallel 3 --burstiness 0.5 --number 100",
        "--stages 30s:5 60s:5-50",
        "--stages 30s:5 --arrival closed",
        "--min-prompt-length 32 --prefix-length 16 --prefix-count 4 --max-tokens 10 20 --min-tokens 5",
        "--input-lengths normal:512:64 --output-lengths lognormal:128:0.5:1:2048",
        "--find-max rate --slo ttft:p99:500ms,error_rate:1% --sla-lower-bound 2 --sla-upper-bound 90",
        "--find-max parallel --slo e2e:mean:2s --sla-num-runs 2 --duration 3",
        "--multi-turn --min-turns 2 --max-turns 4 --think-time 0.5",
        "--no-stream --insecure --transport compatible --connect-timeout 3 --headers X-Team=a",
        "--temperature 0.7 --top-p 0.9 --stop a b --extra-args '{\"ignore_eos\": true}'",
        "--generators 2 --parallel 8 --sleep-interval 0",
    ],
)
def test_the_command_of_a_report_asks_for_the_same(words):
    asked = spec(shlex.split(f"{BASE} {words}"))
    shown = shlex.split(command(asdict(asked)).replace("\\\n", " "))
    assert shown[:2] == ["evalmesh", "perf"]
    assert spec(shown[2:]) == asked
