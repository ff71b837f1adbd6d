"""`evalmesh perf`: from what is typed to the spec that is submitted."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from evalmesh.cli.__main__ import main
from evalmesh.cli.flags import parse
from evalmesh.cli.outputs import LOAD_TESTS
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.run import place_of
from evalmesh.cli.perf.spec import all_notes, repeating, resolve
from evalmesh.domain.connection import origin_of
from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.load_test import (
    ArrivalSpec,
    ImageSpec,
    Lengths,
    LoadLevel,
    LoadTest,
    SearchSpec,
    SloTerm,
    Stage,
    TurnSpec,
)
from evalmesh.domain.state import State

BASE = ("--url", "http://h:8000/v1/chat/completions", "--model", "m")
SECRET = "sk-live-0123456789abcdef"
OUTSIDE = {"command", "action", "module", "parser", "config", "count"}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("EVALMESH_API_KEY", "EVALMESH_SERVER", "EVALMESH_HEADER_X_API_KEY"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def config(*words):
    args = parse(["perf", *words])
    return PerfConfig.load(args.config, {k: v for k, v in vars(args).items() if k not in OUTSIDE})


def spec(*words):
    return resolve(config(*BASE, *words))


def refusal(*words):
    with pytest.raises((InvalidInput, Unimplemented)) as caught:
        resolve(config(*words))
    return caught.value.message


def test_perf_help_is_light_and_documents_exit_codes():
    code = (
        "import sys; from evalmesh.cli.__main__ import main; main(['perf', '--help']); "
        "print('LOADED', [m for m in ('grpc','nats','aiohttp','numpy','pyarrow','pydantic','rich','yaml') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for words in ("exit codes:", "--sla-auto-tune", "evalmesh perf list", "7  with --strict and --slo"):
        assert words in done.stdout


def test_help_of_everything_does_not_load_the_flags_of_perf():
    code = (
        "import sys; from evalmesh.cli.__main__ import main; main(['--help']); "
        "print('evalmesh.cli.perf.flags' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
    assert "perf" in done.stdout


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["perf", "lst"], "Did you mean list?"),
        (["perf", "--paralel", "3"], "--parallel"),
        (["perf", "--api_key", SECRET], "--api-key"),
        (["perf", "--parallel", "x"], "parallel"),
        (["perf", "compare", "a"], "B"),
    ],
)
def test_a_mistyped_command_line_is_2_with_a_hint(argv, hint, capsys):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert SECRET not in printed.err


# The load.


def test_lists_pair_up_and_single_values_are_for_all_levels():
    assert spec("--parallel", "1", "8", "--number", "10", "80").levels == (
        LoadLevel(parallel=1, number=10),
        LoadLevel(parallel=8, number=80),
    )
    assert [level.number for level in spec("--parallel", "1", "8", "32", "--number", "5").levels] == [5, 5, 5]
    assert [level.parallel for level in spec("--number", "5", "6").levels] == [1, 1]
    assert spec("--rate", "5", "10", "--parallel", "4", "8", "--number", "9").levels == (
        LoadLevel(parallel=4, rate=5.0, number=9),
        LoadLevel(parallel=8, rate=10.0, number=9),
    )


def test_lists_of_unlike_lengths_are_refused_by_both_names():
    message = refusal(*BASE, "--parallel", "1", "8", "32", "--number", "5", "6")
    assert "parallel: 3 values [1, 8, 32]" in message
    assert "2 of number [5, 6]" in message


def test_the_default_is_a_thousand_requests_one_at_a_time():
    made = spec()
    assert made.levels == (LoadLevel(parallel=1, number=1000),)
    assert (made.arrival, made.pause_s, made.repeats, made.seed, made.generators) == (ArrivalSpec(), 5.0, 1, 42, 1)


def test_a_duration_replaces_the_default_number_and_bounds_a_given_one():
    assert spec("--duration", "30").levels == (LoadLevel(parallel=1, duration_s=30.0),)
    assert spec("--duration", "30", "--number", "7").levels == (LoadLevel(parallel=1, number=7, duration_s=30.0),)


@pytest.mark.parametrize(
    ("words", "arrival", "caps"),
    [
        (["--rate", "5", "10"], ArrivalSpec("poisson"), [0, 0]),
        (["--rate", "5", "--parallel", "3"], ArrivalSpec("poisson"), [3]),
        (["--rate", "5", "--parallel", "3", "--open-loop"], ArrivalSpec("poisson"), [0]),
        (["--rate", "5", "--burstiness", "0.25"], ArrivalSpec("gamma", burstiness=0.25), [0]),
        (["--rate", "5", "--arrival", "constant"], ArrivalSpec("constant"), [0]),
        (["--rate", "-1"], ArrivalSpec("closed"), [1]),
    ],
)
def test_arrivals(words, arrival, caps):
    made = spec(*words)
    assert made.arrival == arrival
    assert [level.parallel for level in made.levels] == caps


def test_a_cap_that_open_loop_ignores_is_said():
    assert "parallel: 3 is not used" in " ".join(all_notes(config("--rate", "5", "--open-loop", "--parallel", "3")))


def test_stages_and_ramps_are_one_level():
    made = spec("--stages", "500ms:5", "2m:5-50")
    assert made.levels == (LoadLevel(stages=(Stage(0.5, 5.0, 5.0), Stage(120.0, 5.0, 50.0))),)
    assert made.arrival.kind == "poisson"
    made = spec("--ramp", "1", "64", "30", "--arrival", "closed")
    assert made.levels == (LoadLevel(parallel=64, stages=(Stage(30.0, 1.0, 64.0),)),)
    assert "whole numbers" in refusal(*BASE, "--stages", "9s:1-2.5", "--arrival", "closed")
    assert "30s:5" in refusal(*BASE, "--stages", "5/s")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--open-loop"], "open_loop: true needs rate"),
        (["--arrival", "poisson"], "needs rate"),
        (["--arrival", "closed", "--rate", "5"], "leave out one of them"),
        (["--parallel", "0"], "parallel: [0] is not allowed"),
        (["--burstiness", "0.5"], "needs rate"),
        (["--trace-speed", "2"], "arrival 'trace'"),
        (["--generators", "4"], "generators: 4 processes cannot share 1 requests in flight"),
        (["--stages", "5s:3", "--rate", "2"], "leave out rate"),
        (["--duration", "0"], "duration: 0.0 is not allowed"),
        (["--multi-turn", "--rate", "1", "--open-loop"], "leave out multi_turn"),
        (["--max-tokens", "9", "3"], "the least first"),
        (["--max-tokens", "1", "2", "3"], "max_tokens"),
        (["--prefix-count", "3"], "prefix_length"),
        (["--tokenize-prompt"], "tokenizer_path"),
        (["--dataset", "random"], "max_prompt_length: missing"),
        (["--dataset", "random_multi_turn", "--max-prompt-length", "9"], "max_turns: missing"),
        (["--dataset", "trace"], "--dataset-path"),
        (["--dataset-path", "nowhere.jsonl"], "'nowhere.jsonl' is no file"),
        (["--prompt", "@nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["--server-metrics", "none", "http://h/metrics"], "leave out one of them"),
        (["--server-metrics", "h:9090"], "is no http address"),
        (["--scenario", "agentx"], "agents are not part of this build"),
        (["--slo", "ttft:p99"], "ttft"),
        (["--find-max", "rate"], "needs slo"),
        (["--sla-auto-tune"], "needs sla_params"),
        (["--input-lengths", "normal"], "normal:512:64"),
        (["--query-template", "{"], "query_template: this is no JSON"),
        (["--dataset-args", "speed"], "dataset_args"),
        (["--arrival", "poisson"], "rate: 0 is not allowed"),
        (["--arrival", "closed", "--rate", "5"], "rate: 5.0 is not allowed; arrival `closed` knows no rate"),
        (["--find-max", "rate"], "slo: [] is not allowed; a search needs slo"),
        (
            ["--find-max", "rate", "--slo", "ttft:p99:1s", "--sla-lower-bound", "9", "--sla-upper-bound", "3"],
            "sla_upper_bound: 3.0 is not allowed; it must be at least sla_lower_bound, 9",
        ),
        (
            ["--dataset", "random_multi_turn", "--max-prompt-length", "9", "--min-turns", "5", "--max-turns", "3"],
            "min_turns: 5 is not allowed; it must not be above max_turns, 3.",
        ),
        (
            ["--dataset", "random", "--min-prompt-length", "9", "--max-prompt-length", "3"],
            "max_prompt_length: '9 to 3' is not allowed; give whole numbers of tokens, the least first",
        ),
        (["--warmup-num", "1.5"], "warmup_num: 1.5 is not allowed"),
        (["--min-tokens", "9", "--max-tokens", "3"], "min_tokens: 9 is not allowed; no answer can be longer"),
        (["--sleep-interval", "1e9"], "sleep_interval: 1000000000.0 is not allowed"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(words, says):
    assert says in refusal(*BASE, *words)


def test_a_trace_brings_its_own_times_and_lengths(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    made = spec("--dataset", "trace", "--dataset-path", str(rows), "--trace-speed", "2")
    assert made.arrival == ArrivalSpec("trace", speed=2.0)
    assert made.levels == (LoadLevel(),)
    assert made.prompts.output_tokens.kind == "trace"
    assert made.prompts.file_name == "rows.jsonl"
    again = spec("--dataset", "trace", "--dataset-path", str(rows), "--parallel", "8")
    assert (again.arrival.kind, again.levels) == ("closed", (LoadLevel(parallel=8, number=1000),))


# The endpoint.


@pytest.mark.parametrize(
    ("words", "url", "api"),
    [
        (["--url", "http://h:1/v1/chat/completions"], "http://h:1/v1/chat/completions", "chat"),
        (["--url", "http://h:1/v1/completions"], "http://h:1/v1/completions", "completions"),
        (["--url", "http://h:1/v1/embeddings"], "http://h:1/v1/embeddings", "embeddings"),
        (["--url", "http://h:1"], "http://h:1/v1/chat/completions", "chat"),
        (["--url", "http://h:1/v1/"], "http://h:1/v1/chat/completions", "chat"),
        (["--url", "https://h/api/v3"], "https://h/api/v3/chat/completions", "chat"),
        (["--port", "9000"], "http://127.0.0.1:9000/v1/chat/completions", "chat"),
        ([], "http://127.0.0.1:8877/v1/chat/completions", "chat"),
        (["--url", "http://h/v1/chat/completions", "--api", "openai_responses"], "http://h/v1/responses", "responses"),
        (["--url", "http://h/v1", "--api", "embedding"], "http://h/v1/embeddings", "embeddings"),
        (["--url", "http://h/v1/reranks", "--api", "rerank"], "http://h/v1/reranks", "rerank"),
        (["--url", "http://h/v2/rerank"], "http://h/v2/rerank", "rerank"),
        (["--url", "http://h/go?x=1", "--api", "parrot"], "http://h/go?x=1", "parrot"),
    ],
)
def test_addresses_and_apis(words, url, api):
    target = resolve(config("--model", "m", *words)).target
    assert (target.url, target.api) == (url, api)
    assert target.stream is (api not in {"embeddings", "rerank"})


def test_an_endpoint_needs_a_model_and_an_address():
    assert "model: missing" in refusal("--url", "http://h")
    assert "is no http address" in refusal("--url", "h:8000", "--model", "m")
    assert "compatible-mode" in refusal("--url", "http://h", "--model", "m", "--api", "dashscope")
    assert "load_apis" in refusal("--url", "http://h", "--model", "m", "--api", "custom")


def test_literal_keys_are_in_no_environment_and_bound_to_the_address():
    words = ("--api-key", SECRET, "--headers", f"X-Api-Key={SECRET}", "X-Team=a=b")
    made = spec(*words)
    assert made.target.key_ref == "env:EVALMESH_API_KEY"
    assert made.target.headers == {"X-Api-Key": "env:EVALMESH_HEADER_X_API_KEY", "X-Team": "a=b"}
    assert SECRET not in repr(made)
    assert SECRET not in os.environ.values()
    place = place_of(config(*BASE, *words))
    assert place.keys == {"EVALMESH_API_KEY": SECRET, "EVALMESH_HEADER_X_API_KEY": SECRET}
    (own,) = place.connections
    assert own.references == {"env:EVALMESH_API_KEY", "env:EVALMESH_HEADER_X_API_KEY"}
    assert own.covers(origin_of(made.target.url))
    assert not own.covers(origin_of("http://elsewhere/v1"))


def test_a_bearer_header_is_the_key():
    made = spec("--headers", f"Authorization=Bearer {SECRET}")
    assert (made.target.key_ref, made.target.headers) == ("env:EVALMESH_API_KEY", {})
    assert place_of(config(*BASE, "--headers", f"Authorization=Bearer {SECRET}")).keys == {"EVALMESH_API_KEY": SECRET}


def test_a_key_is_never_sent_to_a_server():
    for words in (["--api-key", SECRET], ["--headers", f"X-Api-Key={SECRET}"]):
        message = refusal(*BASE, "--server", "h:1", *words)
        assert "never sent to a server" in message
        assert SECRET not in message


def test_wrong_secrets_are_not_repeated():
    with pytest.raises(InvalidInput) as caught:
        PerfConfig(api_key=[SECRET])
    assert SECRET not in caught.value.message


def test_timeouts_and_transport():
    words = ["--connect-timeout", "3", "--read-timeout", "4", "--total-timeout", "5", "--transport", "compatible"]
    target = spec(*words, "--insecure", "--no-test-connection").target
    assert (target.connect_timeout_s, target.read_timeout_s, target.total_timeout_s) == (3.0, 4.0, 5.0)
    assert (target.transport, target.verify_tls) == ("compatible", False)
    assert spec("--no-test-connection").check_endpoint is False
    assert spec("--server-metrics", "none").server_metrics == ()
    assert spec("--server-metrics", "http://h/m").server_metrics == ("http://h/m",)


# The prompts.


def test_lengths_as_evalscope_means_them():
    made = spec("--dataset", "random", "--min-prompt-length", "100", "--max-prompt-length", "200").prompts
    assert made.input_tokens == Lengths("uniform", 100, 200)
    words = ["--dataset", "random", "--min-prompt-length", "512", "--max-prompt-length", "512", "--prefix-length", "88"]
    made = spec(*words, "--prefix-count", "4").prompts
    assert (made.input_tokens, made.prefix_tokens, made.prefix_count) == (Lengths("fixed", 600, 600), 88, 4)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("512", Lengths("fixed", 512, 512)),
        ("uniform:10:20", Lengths("uniform", 10, 20)),
        ("normal:512:64", Lengths("normal", 1, 1 << 20, 512.0, 64.0)),
        ("lognormal:512:0.5:16:4096", Lengths("lognormal", 16, 4096, 512.0, 0.5)),
    ],
)
def test_distributions_of_lengths(text, lengths):
    assert spec("--dataset", "random", "--input-lengths", text).prompts.input_tokens == lengths
    assert spec("--output-lengths", text).prompts.output_tokens == lengths


def test_answers_are_limited_as_asked():
    assert spec().prompts.output_tokens == Lengths("fixed", 2048, 2048)
    assert spec("--max-tokens", "64").prompts.output_tokens == Lengths("fixed", 64, 64)
    made = spec("--max-tokens", "10", "20", "--min-tokens", "5").prompts
    assert (made.output_tokens, made.min_tokens) == (Lengths("uniform", 10, 20), 5)


def test_the_body_holds_what_was_said_and_nothing_else():
    assert spec().prompts.body == {"temperature": 0.0}
    words = ["--temperature", "0.7", "--top-p", "0.9", "--top-k", "5", "--frequency-penalty", "1", "--n-choices", "2"]
    words += ["--repetition-penalty", "1.1", "--logprobs", "--seed", "7", "--stop", "a", "b", "--stop-token-ids", "1"]
    made = spec(*words, "--extra-args", '{"ignore_eos": true, "temperature": null}')
    assert made.seed == 7
    assert made.prompts.body == {
        "temperature": None,
        "top_p": 0.9,
        "top_k": 5,
        "frequency_penalty": 1.0,
        "repetition_penalty": 1.1,
        "logprobs": True,
        "n": 2,
        "seed": 7,
        "stop": ["a", "b"],
        "stop_token_ids": [1],
        "ignore_eos": True,
    }


def test_embeddings_take_no_sampling():
    made = spec("--api", "embedding", "--dataset", "random_embedding", "--max-prompt-length", "9", "--documents", "4")
    assert (made.prompts.body, made.prompts.output_tokens, made.prompts.documents) == ({}, None, 4)


def test_a_prompt_and_a_template_may_come_from_files(tmp_path):
    (tmp_path / "prompt.txt").write_text("Why?")
    (tmp_path / "body.json").write_text('{"model": "%m", "prompt": "%p", "echo": true}')
    made = spec("--prompt", f"@{tmp_path}/prompt.txt", "--query-template", f"@{tmp_path}/body.json").prompts
    assert made.prompt == "Why?"
    assert json.loads(made.template) == {"model": "{model}", "prompt": "{prompt}", "echo": True}


def test_a_template_without_a_place_for_the_prompt_brings_keys():
    made = spec("--query-template", '{"messages": [], "max_tokens": 5, "top_k": 3, "stream": false}', "--top-k", "4")
    assert (made.prompts.template, made.prompts.output_tokens) == ("", None)
    assert made.prompts.body == {"max_tokens": 5, "top_k": 4, "temperature": 0.0}
    assert made.target.stream is True


def test_images_and_conversations():
    words = ["--max-prompt-length", "9", "--image-width", "64", "--image-height", "32", "--image-num", "2"]
    assert spec("--dataset", "random_vl", *words, "--image-format", "L").prompts.images == ImageSpec(2, 64, 32, "L")
    words = ["--dataset", "random_multi_turn", "--multi-turn", "--max-prompt-length", "9", "--think-time", "0.5"]
    made = spec(*words, "--min-turns", "2", "--max-turns", "5", "--multi-turn-args", '{"first_turn_length": 10}')
    assert made.prompts.turns == TurnSpec(2, 5, 0.5)
    assert made.prompts.args == {"first_turn_length": 10}


@pytest.mark.parametrize(
    ("words", "dataset"),
    [
        (["--dataset", "random", "--multi-turn", "--max-turns", "3", "--max-prompt-length", "9"], "random_multi_turn"),
        (["--dataset", "embed", "--api", "embedding"], "embedding"),
        (["--api", "embedding"], "random_embedding"),
        (["--api", "rerank"], "random_rerank"),
        (["--prompt", "Why?"], "openqa"),
        (["--dataset", "share_gpt_en_multi_turn", "--multi-turn"], "share_gpt_en_multi_turn"),
        (["--dataset", "a_plug_in"], "a_plug_in"),
    ],
)
def test_data_sets_by_whatever_name(words, dataset):
    assert spec(*words).prompts.dataset == dataset


def test_recorded_conversations_have_all_their_turns_unless_bounded():
    assert spec("--dataset", "share_gpt_en", "--multi-turn").prompts.turns.high >= 1000
    assert spec("--dataset", "share_gpt_en", "--multi-turn", "--max-turns", "4").prompts.turns == TurnSpec(1, 4)


def test_speed_benchmarks_ask_for_completions():
    made = spec("--dataset", "speed_benchmark")
    assert (made.target.url, made.levels) == ("http://h:8000/v1/completions", (LoadLevel(parallel=1, number=8),))


def test_without_a_data_set_prompts_are_random_and_that_is_said():
    made = config(*BASE)
    assert resolve(made).prompts.dataset == "random"
    assert "nothing is downloaded" in " ".join(all_notes(made))
    assert all_notes(config(*BASE, "--dataset", "random", "--max-prompt-length", "9")) == []


def test_a_folder_with_one_data_file_is_that_file(tmp_path):
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "data.jsonl").write_text("{}\n")
    assert spec("--dataset", "openqa", "--dataset-path", str(tmp_path)).prompts.file_name == tmp_path.name
    (tmp_path / "more.jsonl").write_text("{}\n")
    assert "data.jsonl, more.jsonl" in refusal(*BASE, "--dataset", "openqa", "--dataset-path", str(tmp_path))


def test_a_folder_is_no_way_around_what_is_asked_of_a_file(tmp_path):
    (tmp_path / "data.jsonl").write_text("")
    assert "data.jsonl' is empty" in refusal(*BASE, "--dataset", "openqa", "--dataset-path", str(tmp_path))
    (tmp_path / "data.jsonl").write_text("{}\n")
    (tmp_path / "data.jsonl").chmod(0)
    if not os.access(tmp_path / "data.jsonl", os.R_OK):  # root may read everything
        told = refusal(*BASE, "--dataset", "openqa", "--dataset-path", str(tmp_path))
        assert "data.jsonl' cannot be read: permission denied" in told


# The objective.


def test_an_objective_and_a_search():
    made = spec(
        "--find-max", "rate", "--slo", "ttft:p99:500ms,itl:p99:50ms", "--duration", "3", "--sla-upper-bound", "90"
    )
    assert made.slo == (SloTerm("ttft", "p99", 500.0), SloTerm("itl", "p99", 50.0))
    assert made.search == SearchSpec("rate", low=1.0, high=90.0, level_s=3.0)
    assert (made.arrival.kind, made.pause_s, len(made.levels)) == ("poisson", 0.0, 1)
    closed = spec("--find-max", "parallel", "--slo", "e2e:mean:2s")
    assert (closed.search.variable, closed.arrival.kind) == ("parallel", "closed")


def test_evalscopes_search_means_the_same():
    words = ["--sla-auto-tune", "--sla-params", '[{"p99_ttft": "<=0.5s", "avg_latency": "<2", "rps": ">=3"}]']
    made = spec(*words, "--sla-variable", "rate", "--sla-fixed-parallel", "7", "--sla-lower-bound", "2")
    assert made.search == SearchSpec("rate", low=2.0, repeats=3)
    assert made.levels[0].parallel == 7
    assert made.slo == (
        SloTerm("ttft", "p99", 500.0),
        SloTerm("e2e", "mean", 2000.0),
        SloTerm("request_rate", "", 3.0),
        SloTerm("error_rate", "", 0.0),
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('[{"p99_ttft": "<=1"}, {"p99_tpot": "<=1"}]', "2 groups"),
        ('[{"tps": "max"}]', "an extreme"),
        ('[{"p42_ttft": "<=1"}]', "p99_ttft"),
        ('[{"p99_ttft": ">=1"}]', "above with <="),
        ('[{"rps": "<=1"}]', "below with >="),
        ('[{"rps": ">=1ms"}]', "an operator and a number"),
        ("nonsense", "write JSON"),
        ("[]", "a list with one mapping"),
    ],
)
def test_sla_params_that_cannot_be_an_objective(value, says):
    assert says in refusal(*BASE, "--sla-auto-tune", "--sla-params", value)


def test_a_search_makes_its_own_levels():
    message = refusal(*BASE, "--find-max", "rate", "--slo", "ttft:p99:1s", "--parallel", "1", "2")
    assert "makes levels" in message


# Keys that are EvalScope's alone, and files.


def test_flags_that_mean_nothing_here_are_taken_and_explained():
    words = [
        "--log-every-n-query",
        "10",
        "--num-workers",
        "2",
        "--queue-size-multiplier",
        "5",
        "--db-commit-interval",
        "9",
    ]
    made = config(*BASE, *words, "--enable-progress-tracker", "--enable-pd-metrics", "--image-patch-size", "28")
    resolve(made)
    said = " ".join(all_notes(made))
    for key in (
        "log_every_n_query",
        "num_workers",
        "db_commit_interval",
        "enable_progress_tracker",
        "enable_pd_metrics",
    ):
        assert f"{key}: not needed here" in said


def test_a_file_takes_the_same_keys_and_flags_win(tmp_path):
    path = tmp_path / "perf.yaml"
    path.write_text("model: a\nurl: http://h:1/v1\nparallel: 4\noutputs_dir: there\nextra_args: {x: 1, y: 2}\n")
    made = config("-c", str(path), "--model", "b", "--extra-args", "y=3")
    assert (made.model, made.parallel, made.work_dir, made.extra_args) == ("b", [4], "there", {"x": 1, "y": 3})
    path.write_text("modle: a\n")
    with pytest.raises(InvalidInput, match="'model'"):
        config("-c", str(path))


def test_perf_yaml_repeats_the_load_test_and_holds_no_key(tmp_path, monkeypatch):
    (tmp_path / "data.jsonl").write_text("{}\n")
    words = ["--api-key", SECRET, "--headers", f"X-Api-Key={SECRET}", "--wandb-api-key", SECRET, "--parallel", "1", "2"]
    words += ["--export", "otlp", "--export-args", f"project=p,api_key={SECRET}"]
    made = config(
        *BASE, *words, "--dataset", "openqa", "--dataset-path", str(tmp_path / "data.jsonl"), "--slo", "ttft:p99:1s"
    )
    submitted = resolve(made)
    test = LoadTest("20260101-abc", submitted, State.QUEUED, 1.75e9)
    LOAD_TESTS.write_config(repeating(made, submitted), test, tmp_path / "out")
    text = (tmp_path / "out" / "perf.yaml").read_text()
    assert SECRET not in text
    assert "wandb" not in text
    assert yaml.safe_load(text)["export_args"] == {"project": "p"}
    monkeypatch.setenv("EVALMESH_API_KEY", SECRET)
    assert resolve(PerfConfig(**yaml.safe_load(text))) == submitted
    assert SECRET not in submitted.client_config
    assert LOAD_TESTS.id_of(str(tmp_path / "out")) == LOAD_TESTS.id_of("loadTests/20260101-abc") == test.id


def test_no_key_travels_with_the_clients_words():
    words = ["--url", "http://h:8000/v1/chat/completions", "--model", "m", "--api-key", SECRET]
    words += ["--headers", f"X-Team={SECRET}", "--server-metrics", "http://h:9/metrics"]
    words += ["--export", "prometheus", "--export-args", f"url=http://me:{SECRET}@h/push,token={SECRET}"]
    travels = resolve(config(*words)).client_config
    assert SECRET not in travels
    assert json.loads(travels)["server_metrics"] == ["http://h:9/metrics"]
    assert json.loads(travels)["api_key"] == "env:EVALMESH_API_KEY"
