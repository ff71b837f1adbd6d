"""The options of an evaluation, said once: `TaskConfig` has their types and bounds, the command line their flags.

EvalScope's names, and ours for what EvalScope has not. Imports nothing heavy.
"""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen

from evalmesh.cli.parser import Flag


class TaskOptions:
    """Field by field in docs/guides/config.md."""

    demo: Annotated[bool, Flag("evaluate the built-in simulated model")] = False

    model: Annotated[
        str | None, Flag("what the endpoint calls the model; or a folder with a checkpoint, run here", "NAME", "model")
    ] = None
    model_id: Annotated[str | None, Flag("what reports call it (default: last part of --model)", "NAME")] = None
    engine: Annotated[
        Literal["openai", "anthropic", "litellm", "transformers", "vllm"] | None,
        Flag("what runs the model: a server, any provider (litellm), or this machine (default: by --model, --api-url)"),
    ] = None
    model_args: Annotated[dict[str, Any], Flag("options of the engine, as k=v or JSON")] = {}
    api_url: Annotated[str | None, Flag("base URL of the endpoint, for OpenAI-compatible ones with its /v1", "URL")] = (
        None
    )
    api_key: Annotated[
        Any,  # a secret in the config
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
    insecure: Annotated[bool, Flag("accept any certificate")] = False
    ca_file: Annotated[str | None, Flag("PEM file with the authorities to trust", "FILE")] = None
    eval_type: Annotated[str | None, Flag("EvalScope's name for --engine: openai_api, llm_ckpt", "TYPE")] = None
    request_kind: Annotated[
        Literal["chat", "completion"] | None, Flag("which call to use (default: chat, or by the address)")
    ] = None
    generation_config: Annotated[
        dict[str, Any],
        Flag("max_tokens, temperature, top_p, top_k, seed, stop_seqs, penalties, extra_body, timeout, retries, ..."),
    ] = {}
    max_tokens: Annotated[int | None, Ge(1), Flag("longest answer (default: the benchmark's)")] = None
    temperature: Annotated[float | None, Ge(0), Flag("0 takes the likeliest token (default: the benchmark's)", "T")] = (
        None
    )
    top_p: Annotated[float | None, Gt(0), Le(1), Flag("part of the probability that is drawn from", "P")] = None
    timeout: Annotated[float | None, Gt(0), Flag("seconds one try may take (default: 600)", "S")] = None
    stream: Annotated[bool | None, Flag("ask for streamed answers")] = None
    ready_timeout: Annotated[
        float, Ge(0), Flag("seconds an endpoint that is starting or waking up is waited for before the run", "S")
    ] = 0
    outage_timeout: Annotated[
        float | None, Gt(0), Flag("seconds an endpoint that goes away in the run is waited for (default: 600)", "S")
    ] = None
    stop_after_failures: Annotated[
        int, Ge(0), Flag("end the run when so many requests in a row fail alike, none succeeding; 0: never", "N")
    ] = 20

    datasets: Annotated[list[str], Flag("benchmarks; see `evalmesh benchmarks list`", "NAME", "benchmarks")] = []
    dataset_args: Annotated[
        dict[str, dict[str, Any]], Flag('per benchmark: \'{"gsm8k": {"few_shot_num": 0}}\'', "JSON")
    ] = {}
    subset: Annotated[list[str], Flag("run these alone; BENCHMARK/SUBSET where there are several", "NAME")] = []
    num_fewshot: Annotated[
        int | None, Ge(0), Flag("solved examples in each prompt (default: the benchmark's)", also=("--few-shot-num",))
    ] = None
    system_prompt: Annotated[str | None, Flag("of every benchmark; @FILE reads it", "TEXT")] = None
    dataset_dir: Annotated[str | None, Flag("folder searched for data sets before any hub", "DIR")] = None
    dataset_hub: Annotated[
        Literal["local", "huggingface", "modelscope"],
        Flag("asked for data sets that are in no folder; local: nobody is"),
    ] = "modelscope"
    dataset_id: Annotated[
        str | None, Flag("data set on the hub, for a benchmark of your own data (general_qa, ...)", "ORG/NAME")
    ] = None
    limit: Annotated[int | float | None, Flag("samples per subset: a count, or a fraction below 1", "N")] = None
    repeats: Annotated[int, Ge(1), Flag("generations per sample")] = 1
    seed: Annotated[int, Flag("of every random choice")] = 42
    completions: Annotated[
        str | None, Flag("answers made elsewhere: they are scored, as by `evalmesh score`", "FILE")
    ] = None

    eval_batch_size: Annotated[
        int | None, Ge(1), Flag("most requests in flight (default: 64, or as the engine likes)", group="execution")
    ] = None
    use_cache: Annotated[str | None, Flag("run or outputs folder whose completions are reused", "RUN")] = None
    rerun_review: Annotated[bool, Flag("with --use-cache: score those again")] = False
    ignore_errors: Annotated[bool, Flag("exit with 0 although some samples have no score")] = False
    on_error: Annotated[
        Literal["exclude", "zero", "fail"],
        Flag("samples without a score: leave them out of means, count them 0, or fail the run"),
    ] = "exclude"
    processes: Annotated[bool, Flag("each service in a process of its own")] = False
    runners: Annotated[int, Ge(1), Le(64), Flag("model runners, with --processes")] = 1

    no_timestamp: Annotated[bool, Flag("write into the work directory itself", group="output")] = False
    overwrite: Annotated[bool, Flag("with --no-timestamp: replace the outputs that are there")] = False
    no_predictions: Annotated[
        bool, Flag("leave out predictions/ and reviews/, copies for EvalScope's scripts: results/ holds all of it")
    ] = False
    name: Annotated[str, Flag("shown in lists and reports")] = ""
    labels: Annotated[
        dict[str, str], Flag("kept with the run; may be repeated", "NAME=VALUE", also=("--label",), nargs="+")
    ] = {}
    export: Annotated[
        list[Literal["wandb", "swanlab", "mlflow", "clearml", "otlp", "prometheus", "csv"]],
        Flag("also send the scores to wandb, swanlab, mlflow, clearml, otlp, prometheus or csv", "SINK"),
    ] = []
    export_args: Annotated[dict[str, Any], Flag("options of the exporters: project, url, ...")] = {}
    price: Annotated[
        list[float], MaxLen(2), Flag("of a million input and output tokens: adds costs", ("IN", "OUT"), nargs=2)
    ] = []
    dry_run: Annotated[bool, Flag("check everything, print the spec and what it would ask, run nothing")] = False
