"""Wrong input is told in a sentence that names it, with the way out and exit code 2, before anything is started.

Files of data have tables of their own: tests/unit/benchmarks/test_wrong_files.py. Endpoints: tests/contract.
"""

import pytest

from evalmesh.cli.__main__ import main

EVAL = ["eval", "--model", "m", "--api-url", "http://127.0.0.1:1/v1", "--datasets", "starter_math"]
PERF = ["perf", "--model", "m", "--url", "http://127.0.0.1:1/v1/chat/completions"]

OF_EVAL = [
    # (flags, what the message must hold)
    ("--limit 0", ["limit", "0"]),
    ("--limit -3", ["limit", "-3"]),
    ("--limit many", ["limit", "many"]),
    ("--limit nan", ["limit", "nan"]),
    ("--limit inf", ["limit", "inf"]),
    ("--limit 1.5", ["limit", "1.5"]),
    ("--limit", ["--limit", "expected"]),
    ("--repeats 0", ["repeats", "0"]),
    ("--repeats -1", ["repeats", "-1"]),
    ("--repeats two", ["--repeats", "two"]),
    ("--repeats 1.5", ["--repeats", "1.5"]),
    ("--repeats 5000", ["repeats", "5000", "4096"]),
    ("--seed x", ["--seed", "x"]),
    ("--seed 99999999999999999999", ["seed", "64 bits"]),
    ("--timeout 0", ["timeout", "0"]),
    ("--timeout -1", ["timeout", "-1"]),
    ("--timeout soon", ["timeout", "soon"]),
    ("--timeout nan", ["timeout", "nan"]),
    ("--max-tokens 0", ["max_tokens", "0"]),
    ("--max-tokens -5", ["max_tokens", "-5"]),
    ("--max-tokens many", ["--max-tokens", "many"]),
    ("--temperature hot", ["--temperature", "hot"]),
    ("--temperature -1", ["temperature", "-1"]),
    ("--temperature nan", ["temperature", "nan"]),
    ("--top-p 2", ["top_p", "2"]),
    ("--top-p 0", ["top_p", "0"]),
    ("--num-fewshot -1", ["num_fewshot", "-1"]),
    ("--num-fewshot x", ["--num-fewshot", "x"]),
    ("--eval-batch-size 0", ["eval_batch_size", "0"]),
    ("--eval-batch-size 1000000", ["eval_batch_size", "65536"]),
    ("--eval-batch-size x", ["--eval-batch-size", "x"]),
    ("--request-kind talk", ["talk", "chat"]),
    ("--dataset-hub hugginface", ["hugginface", "huggingface"]),
    ("--on-error explode", ["explode", "zero"]),
    ("--on-error fail --ignore-errors", ["ignore_errors", "fail"]),
    ("--rerun-review", ["rerun_review", "use_cache"]),
    ("--runners 3", ["runners", "processes"]),
    ("--runners 0 --processes", ["runners", "0"]),
    ("--runners 100 --processes", ["runners", "100"]),
    ("--eval-type llm_ckpt", ["api_url", "transformers"]),
    ("--engine openai --eval-type llm_ckpt", ["engine", "eval_type", "llm_ckpt", "transformers"]),
    ("--eval-type rag", ["eval_type", "rag"]),
    ("--generation-config max_tokens", ["generation_config", "key=value"]),
    ("--generation-config {broken", ["generation_config", "JSON"]),
    ("--generation-config max_tokns=3", ["max_tokns", "max_tokens"]),
    ("--generation-config max_tokens=many", ["generation_config.max_tokens", "many"]),
    ("--generation-config max_tokens=0", ["generation_config.max_tokens", "0"]),
    ("--generation-config temperature=hot", ["generation_config.temperature", "hot"]),
    ("--generation-config top_k=-7", ["generation_config.top_k", "-7"]),
    ("--generation-config top_logprobs=50", ["top_logprobs", "50"]),
    ("--generation-config retries=-1", ["generation_config.retries", "-1"]),
    ("--generation-config retries=many", ["generation_config.retries", "many"]),
    ("--generation-config retries=5000", ["retries", "1000"]),
    ("--generation-config stop_seqs=5", ["generation_config.stop_seqs", "5"]),
    ("--generation-config n=0", ["repeats", "0"]),
    ("--generation-config do_sample=true", ["do_sample", "temperature"]),
    ("--generation-config max_new_tokens=5", ["max_new_tokens", "max_tokens"]),
    ("--generation-config extra_body=5", ["extra_body", "5"]),
    ("--generation-config extra_headers=5", ["extra_headers", "5"]),
    ("--generation-config timeout=-1", ["timeout", "-1"]),
    ("--model-args x", ["model_args", "key=value"]),
    ("--model-args api_key=abc", ["model_args", "key"]),
    ("--dataset-args x", ["dataset_args", "key=value"]),
    ("--dataset-args {broken", ["dataset_args", "JSON"]),
    ('--dataset-args {"starter_meth":{}}', ["starter_meth", "starter_math"]),
    ('--dataset-args {"starter_math":5}', ["dataset_args", "5"]),
    ('--dataset-args {"starter_math":{"limt":1}}', ["limt", "limit"]),
    ('--dataset-args {"starter_math":{"limit":0}}', ["dataset_args.starter_math.limit", "0"]),
    ('--dataset-args {"starter_math":{"few_shot_num":"x"}}', ["few_shot_num", "x"]),
    ('--dataset-args {"starter_math":{"few_shot_num":-1}}', ["dataset_args.starter_math.few_shot_num", "-1"]),
    ('--dataset-args {"starter_math":{"subset_list":[]}}', ["subset_list", "[]"]),
    ('--dataset-args {"starter_math":{"subset_list":["a","a"]}}', ["dataset_args.starter_math.subset_list", "once"]),
    ('--dataset-args {"starter_math":{"shuffle":"maybe"}}', ["shuffle", "maybe"]),
    ('--dataset-args {"starter_math":{"filters":{"regex":"x"}}}', ["filters.regex", "remove_until"]),
    ('--dataset-args {"starter_math":{"filters":5}}', ["filters", "5"]),
    ('--dataset-args {"starter_math":{"metric_list":["acc"]}}', ["metric_list", "version"]),
    ('--dataset-args {"starter_math":{"local_path":5}}', ["local_path", "5"]),
    ("--datasets", ["--datasets", "expected"]),
    ("--datasets starter_math starter_math", ["datasets", "starter_math", "once"]),
    ("--datasets ../x", ["datasets", "../x"]),
    ("--datasets starter.math", ["datasets", "starter.math"]),
    ("--datasets starter_math starter_mcq --subset arts", ["subset", "arts"]),
    ("--api-url h:8000", ["api_url", "h:8000"]),
    ("--api-url ftp://h/v1", ["api_url", "ftp://h/v1"]),
    ("--api-url http://h:99999/v1", ["api_url", "port"]),
    ("--api-url http://[::1/v1", ["api_url", "http://[::1/v1"]),
    ("--api-url http://user:secret9@h/v1", ["api_url", "withheld"]),
    ("--api-url http://h/v1?api_key=secret9", ["api_url", "withheld"]),
    ("--api-key env:NOT_SET_ANYWHERE", ["api_key", "NOT_SET_ANYWHERE"]),
    ("--api-key secret9 --server 127.0.0.1:1", ["api_key", "withheld"]),
    ("--demo", ["demo", "api_url"]),
    ("--model-id " + "x" * 600, ["model_id", "512"]),
    ("--name " + "x" * 600, ["name", "512"]),
    ("--system-prompt @/no/such/file", ["system_prompt", "/no/such/file"]),
    ("--completions x.jsonl", ["completions", "x.jsonl", "is no file"]),
    ("--label team", ["labels", "team", "key=value"]),
    ("--tags team=x", ["--label NAME=VALUE"]),
    ("--config /no/such.yaml", ["config", "/no/such.yaml"]),
    ("-c /", ["config", "/"]),
    ("--template-type x", ["template_type", "endpoint"]),
    ("--sandbox {}", ["sandbox"]),
    ("--stage infer", ["stage", "use_cache"]),
    ("--max-token 5", ["--max-token", "--max-tokens"]),
    ("--maxtokens 5", ["--maxtokens", "--max-tokens"]),
    ("--tasks gsm8k", ["--tasks", "--datasets"]),
    ("--batch_size 3", ["--batch_size", "--eval-batch-size"]),
    ("--quiet", ["--quiet", "standard error"]),
    ("--stream=maybe", ["stream"]),
    ("--work-dir /proc/nope", ["work_dir", "/proc/nope"]),
    ("--price 1", ["--price", "expected 2"]),
    ("--price 1 x", ["price", "x"]),
    ("--price 1 -2", ["price", "-2"]),
    ("--use-cache ../../etc", ["../../etc", "outputs folder"]),
]

OF_PERF = [
    ("--parallel 0", ["parallel", "0"]),
    ("--parallel x", ["parallel", "x"]),
    ("--parallel -1", ["parallel", "-1"]),
    ("--number 0", ["number", "0"]),
    ("--number x", ["number", "x"]),
    ("--number -4", ["number", "-4"]),
    ("--parallel 1 2 --number 1 2 3", ["2 values", "3"]),
    ("--rate 0", ["rate", "0"]),
    ("--rate -5", ["rate", "-5"]),
    ("--rate fast", ["rate", "fast"]),
    ("--rate inf", ["rate", "inf"]),
    ("--rate nan", ["rate", "nan"]),
    ("--duration 0", ["duration", "0"]),
    ("--duration x", ["duration", "x"]),
    ("--open-loop", ["open_loop", "rate"]),
    ("--arrival burst", ["burst", "poisson"]),
    ("--burstiness 2 --rate 5 --arrival poisson", ["burstiness", "poisson"]),
    ("--burstiness 0 --rate 5", ["burstiness", "0"]),
    ("--stages 5", ["stages", "5"]),
    ("--stages 0s:5", ["stages", "0"]),
    ("--stages 5s:-1", ["stages", "-1"]),
    ("--ramp 1 2", ["--ramp", "expected 3"]),
    ("--ramp 1 2 3 --stages 5s:3", ["ramp", "stages"]),
    ("--max-tokens 0", ["max_tokens", "0"]),
    ("--max-tokens 5 4", ["max_tokens", "5", "4"]),
    ("--max-tokens 1 2 3", ["max_tokens"]),
    ("--max-tokens x", ["max_tokens", "x"]),
    ("--max-tokens 5 --output-lengths uniform:1:2", ["output_lengths", "max_tokens"]),
    ("--output-lengths wide", ["output_lengths", "wide"]),
    ("--input-lengths normal:5", ["input_lengths", "normal:5"]),
    ("--min-prompt-length 9 --max-prompt-length 5", ["9", "5"]),
    ("--min-prompt-length -1", ["min_prompt_length", "-1"]),
    ("--prefix-count 3", ["prefix_count", "prefix_length"]),
    ("--dataset custom --dataset-path /no/such", ["dataset_path", "/no/such"]),
    ("--dataset-args x", ["dataset_args", "key=value"]),
    ("--extra-args {broken", ["extra_args", "JSON"]),
    ("--slo ttft", ["slo", "ttft"]),
    ("--slo ttft:p99:fast", ["slo", "fast"]),
    ("--slo speed:p99:5ms", ["slo", "speed"]),
    ("--slo ttft:p101:5ms", ["slo", "p101"]),
    ("--find-max rate", ["slo"]),
    ("--find-max users --slo ttft:p99:5ms", ["users", "rate"]),
    ("--sla-auto-tune", ["sla_params"]),
    ("--sla-params {broken --sla-auto-tune", ["sla_params"]),
    ("--slo ttft:p99:5ms --sla-params [{}] --sla-auto-tune", ["slo", "sla_params"]),
    ("--url h:8000", ["url", "h:8000"]),
    ("--url ftp://h", ["url", "ftp://h"]),
    ("--url http://[", ["url", "http://["]),
    ("--port 0", ["port", "0"]),
    ("--port 99999", ["port", "99999"]),
    ("--port x", ["--port", "x"]),
    ("--api dashscope", ["dashscope", "compatible-mode"]),
    ("--ca-file /no/such.pem", ["ca_file", "/no/such.pem"]),
    ("--transport quick", ["quick", "compatible"]),
    ("--headers x", ["headers", "NAME=VALUE"]),
    ("--temperature hot", ["--temperature", "hot"]),
    ("--n-choices 0", ["n_choices", "0"]),
    ("--repeats 0", ["repeats", "0"]),
    ("--repeats 1001", ["repeats", "1001"]),
    ("--generators 0", ["generators", "0"]),
    ("--generators x", ["--generators", "x"]),
    ("--sleep-interval -1", ["sleep_interval", "-1"]),
    ("--warmup-num -1", ["warmup_num", "-1"]),
    ("--connect-timeout 0", ["connect_timeout", "0"]),
    ("--read-timeout -1", ["read_timeout", "-1"]),
    ("--export nowhere", ["nowhere", "wandb"]),
    ("--server-metrics foo", ["server_metrics", "foo"]),
    ("--tokenizer-path /no/such", ["tokenizer_path", "/no/such"]),
    ("--tokenize-prompt", ["tokenize_prompt", "tokenizer_path"]),
    ("--prompt @/no/such", ["prompt", "/no/such"]),
    ("--query-template {broken", ["query_template"]),
    ("--multi-turn --open-loop --rate 3", ["open_loop", "multi_turn"]),
    ("--image-num 0", ["image_num", "0"]),
    ("--image-format CMYK", ["CMYK", "RGB"]),
    ("--think-time -1", ["think_time", "-1"]),
    ("--scenario x", ["scenario", "trace"]),
    ("--concurrency 5", ["--concurrency", "--parallel"]),
    ("--request-rate 5", ["--request-rate", "--rate"]),
    ("--num-prompts 5", ["--num-prompts", "--number"]),
    ("--trace-speed 0", ["trace_speed", "0"]),
]

OTHERS = [
    (["evl"], ["evl", "eval"]),
    (["eval", "--model"], ["--model", "expected"]),
    (["eval"], ["api_url", "--api-url"]),
    (["eval", "--api-url", "http://h/v1"], ["model", "--model"]),
    (["eval", "--api-url", "http://h/v1", "--model", "m"], ["datasets", "--datasets"]),
    (["eval", "--api-url", "http://h/v1", "--model", " ", "--datasets", "gsm8k"], ["model"]),
    (["perf"], ["model", "--model"]),
    (["perf", "lst"], ["lst", "list"]),
    (["perf", "compare", "a"], ["required", "B"]),
    (["score"], ["--dataset", "--completions"]),
    (["score", "--dataset", "starter_math", "--completions", "/no/such"], ["completions", "/no/such"]),
    (["score", "--dataset", "starter_meth", "--completions", "/no/such"], ["/no/such"]),
    (["runs"], ["ACTION"]),
    (["runs", "lst"], ["lst", "list"]),
    (["runs", "list", "--limit", "x"], ["--limit", "x"]),
    (["runs", "list", "--format", "xml"], ["xml", "json"]),
    (["report", "/no/such"], ["/no/such"]),
    (["report", "--format", "xml"], ["xml", "json"]),
    (["benchmarks"], ["ACTION"]),
    (["benchmarks", "info"], ["NAME"]),
    (["benchmarks", "info", "gsm9k"], ["gsm9k", "gsm8k"]),
    (["benchmarks", "preview", "gsm9k"], ["gsm9k", "gsm8k"]),
    (["benchmarks", "preview", "starter_math", "--samples", "x"], ["--samples", "x"]),
    (["config"], ["ACTION"]),
    (["config", "show", "evil"], ["evil", "eval"]),
    (["config", "show", "-c", "/no/such"], ["/no/such"]),
    (["completion"], ["shell"]),
    (["completion", "powershell"], ["powershell", "bash"]),
    (["simulate", "--port", "x"], ["--port", "x"]),
    (["simulate", "--ttft", "soon"], ["ttft", "soon"]),
    (["simulate", "--skill", "2"], ["skill", "2"]),
    (["simulate", "--benchmarks", "nope"], ["nope"]),
    (["simulate", "--dataset-args", "x"], ["dataset-args"]),
    (["simulate", "--fault", "fire"], ["fire"]),
    (["up", "--runners", "2"], ["runners", "processes"]),
    (["up", "--connection", "x"], ["--connection", "NAME=URL"]),
    (["up", "--generators", "x"], ["--generators", "x"]),
    ([*EVAL, "extra"], ["extra", "benchmarks list"]),
    (["store", "init"], ["--url"]),
    (["store", "init", "--url", "http://x"], ["URL", "s3://"]),
]

ASKED = [
    # What a platform alone knows: it is started, and asked.
    ([*PERF, "--dataset", "nope"], ["dataset", "nope"]),
    ([*PERF, "--dataset", "openqa"], ["dataset_path"]),
    ([*PERF, "--api", "nope"], ["api", "nope"]),
    (["perf", "show", "/no/such"], ["/no/such"]),
    (["perf", "compare", "/no/a", "/no/b"], ["/no/a"]),
]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("EVALMESH_API_KEY", "EVALMESH_SERVER", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def cases():
    for flags, words in OF_EVAL:
        yield pytest.param([*EVAL, *flags.split(" ")], words, id=f"eval {flags}"[:80])
    for flags, words in OF_PERF:
        yield pytest.param([*PERF, *flags.split(" ")], words, id=f"perf {flags}"[:80])
    for argv, words in OTHERS:
        yield pytest.param(argv, words, id=" ".join(argv)[:80])


@pytest.mark.parametrize(("argv", "words"), list(cases()))
def test_wrong_input_is_2_with_the_way_out(argv, words, capsys, tmp_path):
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in said
    assert "a defect" not in said
    assert "secret9" not in said
    assert [path.name for path in tmp_path.iterdir()] == [], "something was started"


@pytest.mark.parametrize(("argv", "words"), ASKED)
def test_what_a_platform_refuses_is_told_alike(argv, words, capsys):
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert "a defect" not in said


def test_there_are_two_hundred():
    assert len(list(cases())) + len(ASKED) >= 200
