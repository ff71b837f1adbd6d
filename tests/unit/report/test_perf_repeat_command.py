"""The command that a report prints asks for the load test it reports, as the command line itself understands it."""

import dataclasses
import io
import shlex
import subprocess

import pytest
from tests.unit.report.page import Page
from tests.unit.report.perf_builders import CREATED, make_test

from evalmesh.cli.flags import parse
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.spec import resolve
from evalmesh.pages.load_tests.page import render_perf_html
from evalmesh.report_aggregator.load_tests.perf_json import build_perf

BASE = "--url http://127.0.0.1:8000/v1/chat/completions --model org/m"
NOT_A_SETTING = {"command", "action", "module", "parser", "config", "count"}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    monkeypatch.setenv("MY_KEY", "x")
    for name in ("EVALMESH_API_KEY", "EVALMESH_SERVER"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def asked(words):
    """The spec that the command line makes of these words."""
    args = vars(parse(["perf", *words]))
    return resolve(PerfConfig.load(args["config"], {k: v for k, v in args.items() if k not in NOT_A_SETTING}))


def pasted(spec, monkeypatch):
    """The spec that a shell makes of what the report of a load test with this spec shows."""
    test = dataclasses.replace(make_test(), spec=spec)
    page = Page(render_perf_html(build_perf(test, [], CREATED)))
    # A shell reads it, with a function in the place of the program that shows what the program gets.
    script = f"evalmesh() {{ printf '%s ' \"$@\"; cat; }}\n{page.code}"
    got = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=10).stdout
    assert got.startswith("perf -c - {")
    monkeypatch.setattr("sys.stdin", io.StringIO(got.removeprefix("perf -c - ")))
    return asked(["-c", "-"])


@pytest.mark.parametrize(
    "words",
    [
        "--parallel 1 8 32 --number 100 800 3200",
        "--parallel 4 8 --number 50 --repeats 3 --sleep-interval 0 --warmup-num 0.1 --seed 7 --generators 4",
        "--rate 5 10 20 --duration 30 --open-loop --slo ttft:p99:500ms,itl:p99:50ms,error_rate:1%",
        "--rate 5 --parallel 64 --arrival constant --number 100",
        "--rate 2.5 --arrival gamma --burstiness 0.25 --number 100",
        "--stages 30s:5 60s:5-50",
        "--arrival closed --stages 10s:4 10s:4-16",
        "--find-max rate --slo ttft:p99:500ms --duration 3 --sla-upper-bound 400",
        "--find-max parallel --slo output_token_rate:100 --sla-lower-bound 4 --sla-num-runs 2",
        "--find-max rate --slo e2e:mean:2s --sla-fixed-parallel 32",
        "--dataset random --min-prompt-length 512 --max-prompt-length 512 --max-tokens 128 --min-tokens 5",
        "--dataset random --input-lengths lognormal:512:0.5:10:4000 --output-lengths normal:128:16",
        "--dataset random --prefix-length 64 --prefix-count 3 --min-prompt-length 100 --max-prompt-length 200",
        "--prompt 'Say \"hi\"; $(rm -rf /)' --max-tokens 10 20 --temperature 0.5 --stop a b --extra-args top_p=0.5,x=y",
        "--no-stream --transport compatible --insecure --connect-timeout 3 --read-timeout 5 --total-timeout 60",
        "--headers X-A=1 X-B=two --api-key env:MY_KEY --api openai_completions",
    ],
)
def test_it_asks_for_the_same_load_test(words, monkeypatch):
    spec = asked(shlex.split(f"{BASE} {words}"))
    again = pasted(spec, monkeypatch)
    hidden = dataclasses.replace(spec.target, headers=dict.fromkeys(spec.target.headers, "***"))
    assert again == dataclasses.replace(spec, target=hidden)


def test_embeddings_are_asked_for_again(monkeypatch):
    words = (
        "--url http://127.0.0.1:8000/v1/embeddings --model bge --parallel 8 --number 10 --dataset random --documents 4"
    )
    words += " --min-prompt-length 32 --max-prompt-length 32"
    spec = asked(shlex.split(words))
    assert spec.target.api == "embeddings"
    assert pasted(spec, monkeypatch) == spec


def test_what_came_through_the_api_says_how_its_spec_is_taken_again():
    page = Page(render_perf_html(build_perf(make_test(), [], CREATED)))
    assert "client.create_load_test(client.get_load_test('" in page.code
    compile(page.code, "page", "exec")
