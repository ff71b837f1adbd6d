"""The options of a load test, said once: `PerfConfig` has their types and bounds, the command line their flags.

EvalScope's names, and ours for what EvalScope has not. Imports nothing heavy.
"""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from evalmesh.cli.parser import Flag


class PerfOptions:
    """Field by field in docs/guides/perf-config.md."""

    url: Annotated[
        str | None,
        Flag("full address that is asked, e.g. http://127.0.0.1:8000/v1/chat/completions", group="endpoint"),
    ] = None
    port: Annotated[int, Ge(1), Le(65535), Flag("of a server on this machine, without --url")] = 8877
    api: Annotated[
        str,
        Flag(
            "openai (chat or completions, by the path), openai_chat, openai_completions, openai_responses, embedding, "
            "rerank, local, local_vllm, or a plug-in",
            "NAME",
        ),
    ] = "openai"
    model: Annotated[str | None, Flag("what the endpoint calls the model, or its folder", "NAME")] = None
    attn_implementation: Annotated[str | None, Flag("of a server started with --api local", "NAME")] = None
    server_command: Annotated[str | None, Flag("what --api local starts, with {port} and {model} in it", "CMD")] = None
    server_timeout: Annotated[float, Gt(0), Flag("longest wait for that server", "S")] = 1800.0
    api_key: Annotated[
        Any,  # secrets in the config, like the two below
        Flag(
            "env:NAME, secret:name/key, or a key, which stays in this process (default: env:EVALMESH_API_KEY if set)",
            "KEY",
        ),
    ]
    connection: Annotated[
        str, Flag("a model server that the platform declares, with its key; see docs/guides/security.md", "NAME")
    ] = ""
    headers: Annotated[
        dict[str, str],
        Flag("sent beside our own; may be repeated, and values env:NAME", "NAME=VALUE", also=("--header",), nargs="+"),
    ] = {}
    connect_timeout: Annotated[float | None, Gt(0), Flag("seconds to connect (default: 10)", "S")] = None
    read_timeout: Annotated[float | None, Gt(0), Flag("longest silence (default: 600)", "S")] = None
    total_timeout: Annotated[float, Gt(0), Flag("longest request", "S")] = 21600.0
    no_test_connection: Annotated[bool, Flag("send no request before the load test")] = False
    transport: Annotated[
        Literal["auto", "fast", "compatible"], Flag("HTTP client: our own, or aiohttp for proxies and unusual TLS")
    ] = "auto"
    insecure: Annotated[bool, Flag("accept any certificate")] = False
    ca_file: Annotated[str | None, Flag("PEM file with the authorities to trust", "FILE")] = None

    parallel: Annotated[
        list[int],
        Flag(
            "requests in flight, one value per level (default: 1); with --rate: the most in flight", "N", group="load"
        ),
    ] = []
    rate: Annotated[
        list[float],
        Flag("arrivals per second, one value per level; without --parallel nothing holds them back", "R"),
    ] = []
    number: Annotated[list[int], Flag("requests per level (default: 1000)", "N", also=("-n",))] = []
    duration: Annotated[float | None, Gt(0), Flag("seconds per level; nothing is sent after them", "S")] = None
    open_loop: Annotated[bool, Flag("send when due, whatever is in flight; needs --rate")] = False
    arrival: Annotated[
        Literal["closed", "constant", "poisson", "gamma", "trace"] | None,
        Flag("when requests are due (default: poisson with --rate, trace for traces, else closed)"),
    ] = None
    burstiness: Annotated[float | None, Gt(0), Flag("gamma's shape: 1 is Poisson, below 1 burstier", "B")] = None
    stages: Annotated[
        list[str],
        Flag(
            "a load that changes within one level: 30s:5 60s:5-50 (per second; with --arrival closed: in flight)",
            "S:LOAD",
            commas=True,
        ),
    ] = []
    ramp: Annotated[
        list[float] | None, MinLen(3), MaxLen(3), Flag("one stage: FROM to TO in S", ("FROM", "TO", "S"), nargs=3)
    ] = None
    trace_speed: Annotated[float | None, Gt(0), Flag("2 replays a trace twice as fast (default: 1)", "F")] = None
    warmup_num: Annotated[float, Ge(0), Flag("requests before each level; below 1 a share", "N")] = 0.0
    sleep_interval: Annotated[float | None, Ge(0), Flag("pause between levels (default: 5)", "S")] = None
    repeats: Annotated[int, Ge(1), Le(1000), Flag("times each level is run")] = 1
    generators: Annotated[int, Ge(1), Le(1024), Flag("processes the load is spread over")] = 1
    seed: Annotated[int | None, Flag("of arrivals, lengths and prompts (42); said: also in the body", "N")] = None

    dataset: Annotated[str | None, Flag("see `evalmesh perf datasets`", "NAME", "prompts")] = None
    dataset_path: Annotated[str | None, Flag("its file on this machine", "FILE")] = None
    dataset_args: Annotated[dict[str, Any], Flag("options of the data set, as k=v or JSON")] = {}
    dataset_offset: Annotated[int, Ge(0), Flag("rows to skip")] = 0
    data_source: Annotated[Literal["modelscope", "huggingface", "local"] | None, Flag("nothing is downloaded")] = None
    prompt: Annotated[str | None, Flag("one prompt for every request; @FILE reads it", "TEXT")] = None
    query_template: Annotated[str | None, Flag("a body to start from; @FILE reads it", "JSON")] = None
    apply_chat_template: Annotated[bool | None, Flag("send text as a chat")] = None
    tokenize_prompt: Annotated[bool, Flag("send token ids (completions)")] = False
    tokenizer_path: Annotated[str | None, Flag("folder or cached hub id of the model's tokenizer", "DIR")] = None
    max_prompt_length: Annotated[int, Ge(1), Flag("most tokens of a prompt")] = 131072
    min_prompt_length: Annotated[int, Ge(0), Flag("least tokens of a prompt")] = 0
    input_lengths: Annotated[str | None, Flag("normal:512:64, lognormal:512:0.5, uniform:1:9, ...", "DIST")] = None
    prefix_length: Annotated[int, Ge(0), Flag("tokens before each prompt that are shared")] = 0
    prefix_count: Annotated[int, Ge(1), Flag("different shared prefixes")] = 1
    image_width: Annotated[int, Ge(1), Flag("of random images", "PX")] = 224
    image_height: Annotated[int, Ge(1), Flag("of random images", "PX")] = 224
    image_format: Annotated[Literal["RGB", "L"], Flag("of random images")] = "RGB"
    image_num: Annotated[int, Ge(1), Flag("random images per prompt")] = 1
    multi_turn: Annotated[bool, Flag("conversations; --number and --parallel count them")] = False
    min_turns: Annotated[int, Ge(1), Flag("least turns of a conversation")] = 1
    max_turns: Annotated[int | None, Ge(1), Flag("most turns of a conversation")] = None
    think_time: Annotated[float, Ge(0), Flag("mean pause before the next turn", "S")] = 0.0
    multi_turn_args: Annotated[dict[str, Any], Flag("merged into --dataset-args")] = {}
    documents: Annotated[int, Ge(0), Flag("per rerank or embedding request")] = 0

    max_tokens: Annotated[
        list[int], MaxLen(2), Flag("one, or least and most (default: 2048)", "N", group="request body")
    ] = []
    min_tokens: Annotated[int | None, Ge(0), Flag("least tokens of an answer")] = None
    ignore_eos: Annotated[bool, Flag("ask servers to go on to max_tokens: ignore_eos in the body")] = False
    output_lengths: Annotated[str | None, Flag("max_tokens of each request, as --input-lengths", "DIST")] = None
    n_choices: Annotated[int | None, Ge(1), Flag("answers per request: n")] = None
    stop: Annotated[list[str] | None, Flag("texts that end an answer", "TEXT", nargs="*")] = None
    stop_token_ids: Annotated[list[int] | None, Flag("tokens that end an answer", "ID", nargs="*")] = None
    stream: Annotated[bool, Flag("ask for streamed answers (default: yes)")] = True
    temperature: Annotated[float | None, Flag("0 takes the likeliest token (default: 0)", "T")] = 0.0
    top_p: Annotated[float | None, Flag("part of the probability that is drawn from", "P")] = None
    top_k: Annotated[int | None, Flag("likeliest tokens that are drawn from", "K")] = None
    frequency_penalty: Annotated[float | None, Flag("as the server takes it", "P")] = None
    repetition_penalty: Annotated[float | None, Flag("as the server takes it", "P")] = None
    logprobs: Annotated[bool | None, Flag("ask for log-probabilities")] = None
    extra_args: Annotated[dict[str, Any], Flag("merged into every body, as k=v or JSON")] = {}

    slo: Annotated[
        str | None, Flag("ttft:p99:500ms,itl:p99:50ms,error_rate:1%%; gives goodput", "TERMS", "objective and search")
    ] = None
    find_max: Annotated[Literal["rate", "parallel"] | None, Flag("search the highest load that meets --slo")] = None
    sla_auto_tune: Annotated[bool, Flag("the same search, described by --sla-params")] = False
    sla_variable: Annotated[Literal["rate", "parallel"], Flag("what --sla-auto-tune searches")] = "parallel"
    sla_params: Annotated[Any, Flag('objective: \'[{"p99_ttft": "<=500ms"}]\'', "JSON")] = None
    sla_num_runs: Annotated[int | None, Ge(1), Flag("probes per load, pooled (3; --find-max: 1)")] = None
    sla_upper_bound: Annotated[float | None, Gt(0), Flag("highest load that is tried", "N")] = None
    sla_lower_bound: Annotated[float | None, Gt(0), Flag("lowest load that is tried (default: 1)", "N")] = None
    sla_fixed_parallel: Annotated[int | None, Ge(1), Flag("most in flight when searching a rate")] = None
    strict: Annotated[bool, Flag("exit codes 6 to 8, see below")] = False

    name: Annotated[str, Flag("shown in lists and reports", group="execution and output")] = ""
    alias: Annotated[str, Flag("label that tells endpoints of one model apart")] = ""
    labels: Annotated[
        dict[str, str], Flag("kept with the load test; may be repeated", "NAME=VALUE", also=("--label",), nargs="+")
    ] = {}
    no_timestamp: Annotated[bool, Flag("write into the work directory itself")] = False
    overwrite: Annotated[bool, Flag("with --no-timestamp: replace the outputs that are there")] = False
    processes: Annotated[bool, Flag("each service in a process of its own")] = False
    ignore_errors: Annotated[bool, Flag("exit with 0 although some requests failed")] = False
    server_metrics: Annotated[
        list[str],
        Flag("Prometheus addresses to scrape, nvml, or none (default: /metrics beside the endpoint, if there)", "URL"),
    ] = []
    export: Annotated[
        list[Literal["wandb", "swanlab", "mlflow", "clearml", "otlp", "prometheus", "csv"]],
        Flag("also send the result to wandb, swanlab, mlflow, clearml, otlp, prometheus or csv", "SINK"),
    ] = []
    export_args: Annotated[dict[str, Any], Flag("options of the exporters: project, url, ...")] = {}
    visualizer: Annotated[Literal["wandb", "swanlab", "clearml"] | None, Flag("EvalScope's --export")] = None
    wandb_api_key: Annotated[Any, Flag("as WANDB_API_KEY", "KEY")]
    swanlab_api_key: Annotated[Any, Flag("as SWANLAB_API_KEY", "KEY")]
    swanlab_host: Annotated[str | None, Flag("as SWANLAB_HOST", "URL")] = None
    dry_run: Annotated[bool, Flag("print the resolved spec, check it, run nothing")] = False
