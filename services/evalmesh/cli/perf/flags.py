"""The flags of `evalmesh perf`: EvalScope's names, and ours for what EvalScope has not. Imports nothing heavy."""

from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction
from collections.abc import Sequence
from typing import Any

from evalmesh.cli.exits import PERF_HELP
from evalmesh.cli.flags import Parser, add_action, add_actions, place_flags

ACTIONS = ("list", "watch", "cancel", "show", "compare", "preview", "datasets")
"""What may follow `evalmesh perf`; without one of them the flags describe a load test, which is run."""

_EPILOG = f"""\
actions on load tests (each has a --help):
    evalmesh perf list | watch ID | cancel ID | show [ID] | compare A B | preview ... | datasets

try:
    evalmesh simulate --port 8801 --ttft 50ms --itl 5ms &
    evalmesh perf --url http://127.0.0.1:8801/v1/chat/completions --model simulated --parallel 1 8 --number 50

{PERF_HELP}"""


def add_arguments(parser: Parser, argv: Sequence[str]) -> None:
    """Adds what the word after `perf` asks for: the flags of a load test, or one of the actions."""
    words = list(argv[argv.index("perf") + 1 :]) if "perf" in argv else []
    parser.epilog = _EPILOG
    if words and not words[0].startswith("-"):
        _add_actions(parser)
        return
    parser.description = "Measures an endpoint under load: a sweep of levels, an arrival process, a trace, or a search."
    parser.set_defaults(action="run")
    test_flags(parser)


def test_flags(parser: ArgumentParser) -> None:
    """Everything that describes a load test. Only what was said is in the namespace."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="YAML or JSON file with these options as keys; flags win"
    )
    _endpoint(parser.add_argument_group("endpoint"))
    _load(parser.add_argument_group("load"))
    _prompts(parser.add_argument_group("prompts"))
    _answers(parser.add_argument_group("request body"))
    _objective(parser.add_argument_group("objective and search"))
    _output(parser.add_argument_group("execution and output"))
    # EvalScope's flags that mean nothing here: accepted so that the config can say what is done instead.
    for flag in _FOREIGN:
        parser.add_argument(flag, nargs="?", const=True, default=SUPPRESS, help=SUPPRESS)


_FOREIGN = (
    "--scenario",
    "--enable-pd-metrics",
    "--queue-size-multiplier",
    "--in-flight-task-multiplier",
    "--num-workers",
    "--db-commit-interval",
    "--log-every-n-query",
    "--enable-progress-tracker",
    "--image-patch-size",
    "--sla-number-multiplier",
)


def _endpoint(group: Any) -> None:
    add = group.add_argument
    add("--url", default=SUPPRESS, help="full address that is asked, e.g. http://127.0.0.1:8000/v1/chat/completions")
    add("--port", type=int, default=SUPPRESS, metavar="N", help="of a server on this machine, without --url (8877)")
    add(
        "--api",
        default=SUPPRESS,
        metavar="NAME",
        help="openai (chat or completions, by the path), openai_chat, openai_completions, openai_responses, embedding, "
        "rerank, local, local_vllm, or a plug-in (default: openai)",
    )
    add("--model", default=SUPPRESS, metavar="NAME", help="what the endpoint calls the model, or its folder")
    add("--attn-implementation", default=SUPPRESS, metavar="NAME", help="of a server started with --api local")
    add(
        "--server-command",
        default=SUPPRESS,
        metavar="CMD",
        help="what --api local starts, with {port} and {model} in it",
    )
    add("--server-timeout", type=float, default=SUPPRESS, metavar="S", help="longest wait for that server (1800)")
    add(
        "--api-key",
        default=SUPPRESS,
        metavar="KEY",
        help="env:NAME, secret:name/key, or a key, which stays in this process (default: env:EVALMESH_API_KEY if set)",
    )
    add(
        "--connection",
        default=SUPPRESS,
        metavar="NAME",
        help="a model server that the platform declares, with its key; see docs/guides/security.md",
    )
    add("--headers", nargs="+", default=SUPPRESS, metavar="K=V", help="headers beside our own")
    add("--connect-timeout", type=float, default=SUPPRESS, metavar="S", help="seconds to connect (default: 10)")
    add("--read-timeout", type=float, default=SUPPRESS, metavar="S", help="longest silence (default: 600)")
    add("--total-timeout", type=float, default=SUPPRESS, metavar="S", help="longest request (default: 21600)")
    add("--no-test-connection", action="store_true", default=SUPPRESS, help="send no request before the load test")
    add(
        "--transport",
        choices=("auto", "fast", "compatible"),
        default=SUPPRESS,
        help="HTTP client: our own, or aiohttp for proxies and unusual TLS (default: auto)",
    )
    add("--insecure", action="store_true", default=SUPPRESS, help="accept any certificate")
    add("--ca-file", default=SUPPRESS, metavar="FILE", help="PEM file with the authorities to trust")


def _load(group: Any) -> None:
    add = group.add_argument
    add(
        "--parallel",
        type=int,
        nargs="+",
        default=SUPPRESS,
        metavar="N",
        help="requests in flight, one value per level (default: 1); with --rate: the most in flight",
    )
    add(
        "--rate",
        type=float,
        nargs="+",
        default=SUPPRESS,
        metavar="R",
        help="arrivals per second, one value per level; without --parallel nothing holds them back",
    )
    add("-n", "--number", type=int, nargs="+", default=SUPPRESS, metavar="N", help="requests per level (default: 1000)")
    add("--duration", type=float, default=SUPPRESS, metavar="S", help="seconds per level; nothing is sent after them")
    add("--open-loop", action="store_true", default=SUPPRESS, help="send when due, whatever is in flight; needs --rate")
    add(
        "--arrival",
        choices=("closed", "constant", "poisson", "gamma", "trace"),
        default=SUPPRESS,
        help="when requests are due (default: poisson with --rate, trace for traces, else closed)",
    )
    add("--burstiness", type=float, default=SUPPRESS, metavar="B", help="gamma's shape: 1 is Poisson, below 1 burstier")
    add(
        "--stages",
        nargs="+",
        default=SUPPRESS,
        metavar="S:LOAD",
        help="a load that changes within one level: 30s:5 60s:5-50 (per second; with --arrival closed: in flight)",
    )
    add("--ramp", nargs=3, type=float, default=SUPPRESS, metavar=("FROM", "TO", "S"), help="one stage: FROM to TO in S")
    add("--trace-speed", type=float, default=SUPPRESS, metavar="F", help="2 replays a trace twice as fast (default: 1)")
    add("--warmup-num", type=float, default=SUPPRESS, metavar="N", help="requests before each level; below 1 a share")
    add("--sleep-interval", type=float, default=SUPPRESS, metavar="S", help="pause between levels (default: 5)")
    add("--repeats", type=int, default=SUPPRESS, metavar="N", help="times each level is run (default: 1)")
    add("--generators", type=int, default=SUPPRESS, metavar="N", help="processes the load is spread over (default: 1)")
    add("--seed", type=int, default=SUPPRESS, help="of arrivals, lengths and prompts (42); said: also in the body")


def _prompts(group: Any) -> None:
    add = group.add_argument
    add("--dataset", default=SUPPRESS, metavar="NAME", help="see `evalmesh perf datasets` (default: openqa)")
    add("--dataset-path", default=SUPPRESS, metavar="FILE", help="its file on this machine")
    add("--data-source", choices=("modelscope", "huggingface", "local"), default=SUPPRESS, help="nothing is downloaded")
    add("--dataset-args", default=SUPPRESS, metavar="K=V,...", help="options of the data set, as k=v or JSON")
    add("--dataset-offset", type=int, default=SUPPRESS, metavar="N", help="rows to skip")
    add("--prompt", default=SUPPRESS, metavar="TEXT", help="one prompt for every request; @FILE reads it")
    add("--query-template", default=SUPPRESS, metavar="JSON", help="a body to start from; @FILE reads it")
    add("--apply-chat-template", action=BooleanOptionalAction, default=SUPPRESS, help="send text as a chat")
    add("--tokenize-prompt", action="store_true", default=SUPPRESS, help="send token ids (completions)")
    add("--tokenizer-path", default=SUPPRESS, metavar="DIR", help="folder or cached hub id of the model's tokenizer")
    add("--max-prompt-length", type=int, default=SUPPRESS, metavar="N", help="most tokens of a prompt (131072)")
    add("--min-prompt-length", type=int, default=SUPPRESS, metavar="N", help="least tokens of a prompt (0)")
    add("--input-lengths", default=SUPPRESS, metavar="DIST", help="normal:512:64, lognormal:512:0.5, uniform:1:9, ...")
    add("--prefix-length", type=int, default=SUPPRESS, metavar="N", help="tokens before each prompt that are shared")
    add("--prefix-count", type=int, default=SUPPRESS, metavar="N", help="different shared prefixes (default: 1)")
    add("--image-width", type=int, default=SUPPRESS, metavar="PX", help="of random images (224)")
    add("--image-height", type=int, default=SUPPRESS, metavar="PX", help="of random images (224)")
    add("--image-format", default=SUPPRESS, metavar="MODE", help="RGB or L (default: RGB)")
    add("--image-num", type=int, default=SUPPRESS, metavar="N", help="random images per prompt (default: 1)")
    add("--multi-turn", action="store_true", default=SUPPRESS, help="conversations; --number and --parallel count them")
    add("--min-turns", type=int, default=SUPPRESS, metavar="N", help="least turns of a conversation (default: 1)")
    add("--max-turns", type=int, default=SUPPRESS, metavar="N", help="most turns of a conversation")
    add("--think-time", type=float, default=SUPPRESS, metavar="S", help="mean pause before the next turn (default: 0)")
    add("--multi-turn-args", default=SUPPRESS, metavar="JSON", help="merged into --dataset-args")
    add(
        "--documents",
        type=int,
        default=SUPPRESS,
        metavar="N",
        help="per rerank or embedding request",
    )


def _answers(group: Any) -> None:
    add = group.add_argument
    add("--max-tokens", type=int, nargs="+", default=SUPPRESS, metavar="N", help="one, or least and most (2048)")
    add("--min-tokens", type=int, default=SUPPRESS, metavar="N")
    add("--output-lengths", default=SUPPRESS, metavar="DIST", help="max_tokens of each request, as --input-lengths")
    add("--n-choices", type=int, default=SUPPRESS, metavar="N")
    add("--stop", nargs="*", default=SUPPRESS, metavar="TEXT")
    add("--stop-token-ids", nargs="*", type=int, default=SUPPRESS, metavar="ID")
    add("--stream", action=BooleanOptionalAction, default=SUPPRESS, help="ask for streamed answers (default: yes)")
    add("--temperature", type=float, default=SUPPRESS, metavar="T", help="default: 0")
    add("--top-p", type=float, default=SUPPRESS, metavar="P")
    add("--top-k", type=int, default=SUPPRESS, metavar="K")
    add("--frequency-penalty", type=float, default=SUPPRESS, metavar="P")
    add("--repetition-penalty", type=float, default=SUPPRESS, metavar="P")
    add("--logprobs", action="store_true", default=SUPPRESS)
    add("--extra-args", default=SUPPRESS, metavar="K=V,...", help="merged into every body, as k=v or JSON")


def _objective(group: Any) -> None:
    add = group.add_argument
    add("--slo", default=SUPPRESS, metavar="TERMS", help="ttft:p99:500ms,itl:p99:50ms,error_rate:1%%; gives goodput")
    add(
        "--find-max",
        choices=("rate", "parallel"),
        default=SUPPRESS,
        help="search the highest load that meets --slo",
    )
    add("--sla-auto-tune", action="store_true", default=SUPPRESS, help="the same search, described by --sla-params")
    add("--sla-variable", choices=("parallel", "rate"), default=SUPPRESS, help="default: parallel")
    add("--sla-params", default=SUPPRESS, metavar="JSON", help='objective: \'[{"p99_ttft": "<=500ms"}]\'')
    add("--sla-num-runs", type=int, default=SUPPRESS, metavar="N", help="probes per load, pooled (3; --find-max: 1)")
    add("--sla-upper-bound", type=float, default=SUPPRESS, metavar="N", help="highest load that is tried")
    add("--sla-lower-bound", type=float, default=SUPPRESS, metavar="N", help="lowest load that is tried (default: 1)")
    add("--sla-fixed-parallel", type=int, default=SUPPRESS, metavar="N", help="most in flight when searching a rate")
    add("--strict", action="store_true", default=SUPPRESS, help="exit codes 6 and 7, see below")


def _output(group: Any) -> None:
    add = group.add_argument
    add("--name", default=SUPPRESS, help="shown in lists and reports")
    add("--alias", default=SUPPRESS, help="label that tells endpoints of one model apart")
    place_flags(group, SUPPRESS)
    add("--outputs-dir", dest="work_dir", default=SUPPRESS, metavar="DIR", help="the same as --work-dir")
    add("--no-timestamp", action="store_true", default=SUPPRESS, help="write into the work directory itself")
    add("--processes", action="store_true", default=SUPPRESS, help="each service in a process of its own")
    add("--ignore-errors", action="store_true", default=SUPPRESS, help="exit with 0 although some requests failed")
    add(
        "--server-metrics",
        nargs="+",
        default=SUPPRESS,
        metavar="URL",
        help="Prometheus addresses to scrape, nvml, or none (default: /metrics beside the endpoint, if it is there)",
    )
    add(
        "--export",
        nargs="+",
        default=SUPPRESS,
        metavar="SINK",
        help="also send the result to wandb, swanlab, mlflow, clearml, otlp or prometheus",
    )
    add("--export-args", default=SUPPRESS, metavar="K=V,...", help="options of the exporters: project, url, ...")
    add("--visualizer", choices=("wandb", "swanlab", "clearml"), default=SUPPRESS, help="EvalScope's --export")
    add("--wandb-api-key", default=SUPPRESS, metavar="KEY", help="as WANDB_API_KEY")
    add("--swanlab-api-key", default=SUPPRESS, metavar="KEY", help="as SWANLAB_API_KEY")
    add("--swanlab-host", default=SUPPRESS, metavar="URL", help="as SWANLAB_HOST")
    add("--dry-run", action="store_true", default=SUPPRESS, help="print the resolved spec, check it, run nothing")


def _add_actions(parser: Parser) -> None:
    actions = add_actions(parser)
    listing = add_action(actions, "list", "list load tests, newest first")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (default: 20)")
    listing.add_argument("--format", choices=("table", "json"), default="table")
    place_flags(listing)
    for name, text in (("watch", "follow a load test until it ends"), ("cancel", "end it; what is measured stays")):
        one = add_action(actions, name, text)
        one.add_argument("load_test", metavar="ID", help="id or outputs folder")
        place_flags(one)
    show = add_action(actions, "show", "print the tables of a load test")
    show.add_argument("load_test", nargs="?", metavar="ID", help="id, outputs folder or perf.json (default: newest)")
    show.add_argument("--format", choices=("table", "json"), default="table")
    place_flags(show)
    compare = add_action(actions, "compare", "compare two load tests level by level")
    for name in ("a", "b"):
        compare.add_argument(name, metavar=name.upper(), help="id, outputs folder or perf.json")
    compare.add_argument("--format", choices=("table", "json"), default="table")
    place_flags(compare)
    preview = add_action(actions, "preview", "print the first request bodies of a load test, and send nothing")
    preview.add_argument("--count", type=int, default=1, metavar="N", help="how many, at most 20 (default: 1)")
    test_flags(preview)
    datasets = add_action(actions, "datasets", "list what --dataset takes")
    datasets.add_argument("--format", choices=("table", "json"), default="table")
    place_flags(datasets)
