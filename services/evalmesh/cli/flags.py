"""All flags of all commands. Imports nothing heavy: `evalmesh --help` must be instant."""

import argparse
import os
import sys
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, RawDescriptionHelpFormatter
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from evalmesh.cli.exits import BAD_INPUT, HELP

_DESCRIPTION = """\
Evaluates models, on one machine or across a cluster.

try:
    evalmesh eval --demo
    evalmesh eval --model my-model --api-url http://127.0.0.1:8000/v1 --datasets gsm8k arc --limit 5
"""


class Parser(ArgumentParser):
    """Suggests the nearest flag or command for a mistyped one; takes no abbreviations."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", RawDescriptionHelpFormatter)
        super().__init__(*args, **options)

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Ends with the exit code for wrong input."""
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        flag = flags[0] if flags else words[0]
        near = get_close_matches(flag, self._option_string_actions, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"See `{self.prog} --help`."
        # Only the name of a flag is repeated: what follows it may be a key.
        self.error(f"there is no {'flag' if flags else 'argument'} {flag!r}. {hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        near = get_close_matches(str(value), map(str, action.choices or ()), n=1, cutoff=0.5)
        if action.choices is None or value in action.choices or not near:
            super()._check_value(action, value)
            return
        message = f"{value!r} is none of {', '.join(map(str, action.choices))}. Did you mean {near[0]}?"
        raise argparse.ArgumentError(action, message)

    def error(self, message: str) -> NoReturn:
        """As argparse does, without the pages of usage."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}\n")


class _Version(argparse.Action):
    def __call__(self, parser: ArgumentParser, *_: Any) -> None:
        version = import_module("importlib.metadata").version("evalmesh")
        print(f"evalmesh {version}")
        parser.exit()


def build_parser(argv: Sequence[str]) -> Parser:
    """The parser of the whole command line; `argv` tells which rooms must bring flags of their own."""
    parser = Parser(prog="evalmesh", description=_DESCRIPTION, epilog=HELP)
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=SUPPRESS, default=SUPPRESS, help="print the version and exit"
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _eval(_command(commands, "eval", "eval.command", "evaluate a model and print the report"))
    perf = _command(commands, "perf", "perf.command", "load-test an endpoint")
    if "perf" in argv:
        import_module("evalmesh.cli.perf.flags").add_arguments(perf, argv)
    _score(_command(commands, "score", "eval.score_command", "score completions made elsewhere"))
    _runs(_command(commands, "runs", "eval.runs_command", "list, watch, cancel or resume runs"))
    _report(_command(commands, "report", "eval.report_command", "print the report of a run"))
    _benchmarks(
        _command(commands, "benchmarks", "eval.benchmarks_command", "list benchmarks, show one, preview its prompts")
    )
    _up(_command(commands, "up", "platform.up_command", "keep the platform running on this machine"))
    simulate = _command(
        commands, "simulate", "platform.simulate_command", "serve a simulated model over the OpenAI protocol"
    )
    if "simulate" in argv:
        import_module("evalmesh.simulator.cli").add_arguments(simulate)
        simulate.add_argument("--debug", action="store_true", help="show tracebacks")
    _store(_command(commands, "store", "platform.store_command", "prepare an object store"))
    return parser


def _command(commands: Any, name: str, module: str, text: str) -> Parser:
    parser: Parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=HELP)
    parser.set_defaults(module=module, parser=parser)
    return parser


def add_actions(parser: Parser) -> Any:
    """Makes the command one of several actions."""
    return parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)


def add_action(actions: Any, name: str, text: str) -> Parser:
    """The parser of one action."""
    parser: Parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=HELP)
    parser.set_defaults(parser=parser)
    return parser


def _eval(parser: Parser) -> None:
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", help="YAML or JSON file with these options as keys; flags win over it")
    add("--demo", action="store_true", default=SUPPRESS, help="evaluate the built-in simulated model")
    _model_flags(parser.add_argument_group("model"))
    _task_flags(parser.add_argument_group("benchmarks"))
    _run_flags(parser.add_argument_group("execution"))
    group = parser.add_argument_group("output")
    place_flags(group, SUPPRESS)
    _output_flags(group)
    # EvalScope's flags that this build cannot serve: accepted here so that the config can say what to use instead.
    for flag in _FOREIGN:
        parser.add_argument(flag, nargs="?", const=True, default=SUPPRESS, help=SUPPRESS)


_FOREIGN = (
    "--model-task",
    "--chat-template",
    "--template-type",
    "--eval-backend",
    "--eval-config",
    "--stage",
    "--mem-cache",
    "--enable-progress-tracker",
    "--judge",
    "--judge-strategy",
    "--judge-model-args",
    "--judge-worker-num",
    "--analysis-report",
    "--collect-perf",
    "--agent-config",
    "--sandbox",
    "--use-sandbox",
    "--sandbox-type",
    "--sandbox-manager-config",
)


def _model_flags(group: Any) -> None:
    add = group.add_argument
    add("--model", default=SUPPRESS, metavar="NAME", help="what the endpoint calls the model")
    add("--model-id", default=SUPPRESS, metavar="NAME", help="what reports call it (default: last part of --model)")
    add("--model-args", default=SUPPRESS, metavar="K=V,...", help="options of the engine, as k=v or JSON")
    add("--api-url", default=SUPPRESS, metavar="URL", help="base URL of an OpenAI-compatible endpoint, with its /v1")
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
    add("--eval-type", default=SUPPRESS, metavar="TYPE", help="openai_api (also: service)")
    add("--request-kind", default=SUPPRESS, choices=("chat", "completion"), help="which call to use (default: chat)")
    add(
        "--generation-config",
        default=SUPPRESS,
        metavar="K=V,...",
        help="max_tokens, temperature, top_p, top_k, seed, stop_seqs, penalties, extra_body, timeout, retries, ...",
    )
    add("--timeout", type=float, default=SUPPRESS, metavar="S", help="seconds one try may take (default: 600)")
    add("--stream", action=BooleanOptionalAction, default=SUPPRESS, help="ask for streamed answers")


def _task_flags(group: Any) -> None:
    add = group.add_argument
    add("--datasets", nargs="+", default=SUPPRESS, metavar="NAME", help="benchmarks; see `evalmesh benchmarks list`")
    add("--dataset-args", default=SUPPRESS, metavar="JSON", help='per benchmark: \'{"gsm8k": {"few_shot_num": 0}}\'')
    add("--dataset-dir", default=SUPPRESS, metavar="DIR", help="folder searched for data sets before any hub")
    add("--dataset-hub", default=SUPPRESS, choices=("modelscope", "huggingface", "local"), help="default: modelscope")
    add("--limit", default=SUPPRESS, metavar="N", help="samples per subset: a count, or a fraction below 1")
    add("--repeats", type=int, default=SUPPRESS, metavar="N", help="generations per sample (default: 1)")
    add("--seed", type=int, default=SUPPRESS, help="of every random choice (default: 42)")


def _run_flags(group: Any) -> None:
    add = group.add_argument
    add("--eval-batch-size", type=int, default=SUPPRESS, metavar="N", help="most requests in flight (default: 64)")
    add("--use-cache", default=SUPPRESS, metavar="RUN", help="run or outputs folder whose completions are reused")
    add("--rerun-review", action="store_true", default=SUPPRESS, help="with --use-cache: score those again")
    add(
        "--ignore-errors", action="store_true", default=SUPPRESS, help="exit with 0 although some samples have no score"
    )
    add(
        "--on-error",
        choices=("exclude", "zero", "fail"),
        default=SUPPRESS,
        help="samples without a score: leave them out of means, count them 0, or fail the run (default: exclude)",
    )
    add("--processes", action="store_true", default=SUPPRESS, help="each service in a process of its own")
    add("--runners", type=int, default=SUPPRESS, metavar="N", help="model runners, with --processes (default: 1)")


def _output_flags(group: Any) -> None:
    add = group.add_argument
    add("--no-timestamp", action="store_true", default=SUPPRESS, help="write into the work directory itself")
    add("--name", default=SUPPRESS, help="shown in lists and reports")
    add("--dry-run", action="store_true", default=SUPPRESS, help="print the resolved spec, check it, run nothing")


def place_flags(group: Any, default: Any = None) -> None:
    """Where the platform is; with `SUPPRESS` only what was said is in the namespace."""
    add = group.add_argument
    add(
        "--server",
        default=os.environ.get("EVALMESH_SERVER") or default,
        metavar="HOST:PORT",
        help="a running platform (default: EVALMESH_SERVER, else one is started here)",
    )
    work_dir = default if default is SUPPRESS else "./outputs"
    add("--work-dir", default=work_dir, metavar="DIR", help="where results and the platform's data go (./outputs)")
    debug = default if default is SUPPRESS else False
    add("--debug", action="store_true", default=debug, help="tracebacks and verbose logs")


def _score(parser: Parser) -> None:
    parser.description = (
        "Scores completions made elsewhere, with the scorer and the report of a run.\n\n"
        "FILE is JSON Lines; each row has\n"
        '  "id" (the sample\'s) or "index" (0-based row in the data) with "subset" where there are several,\n'
        '  optionally "repeat" (0-based),\n'
        '  and the answer as "text", "completion" or "output".'
    )
    add = parser.add_argument
    add("--dataset", "--datasets", required=True, metavar="NAME", help="the benchmark that was answered")
    add("--completions", required=True, metavar="FILE", help="JSON Lines, see above")
    add(
        "--dataset-args", default=SUPPRESS, metavar="JSON", help="as for `evalmesh eval`; may also be for one benchmark"
    )
    add("--dataset-dir", default=SUPPRESS, metavar="DIR", help="folder searched for data sets before any hub")
    add("--dataset-hub", default=SUPPRESS, choices=("modelscope", "huggingface", "local"))
    add("--model", default=SUPPRESS, metavar="NAME", help="what the report calls the model (default: recorded)")
    add("--limit", default=SUPPRESS, metavar="N", help="samples per subset")
    add("--repeats", type=int, default=SUPPRESS, metavar="N", help="completions per sample (default: 1)")
    add("--on-error", choices=("exclude", "zero", "fail"), default=SUPPRESS, help="samples without a completion")
    add("--ignore-errors", action="store_true", default=SUPPRESS, help="exit with 0 although some have no score")
    add("--no-timestamp", action="store_true", default=SUPPRESS, help="write into the work directory itself")
    add("--name", default=SUPPRESS, help="shown in lists and reports")
    place_flags(parser, SUPPRESS)


def _runs(parser: Parser) -> None:
    actions = add_actions(parser)
    listing = add_action(actions, "list", "list runs, newest first")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (default: 20)")
    listing.add_argument("--format", choices=("table", "json"), default="table")
    place_flags(listing)
    for name, text in (("watch", "follow a run until it ends"), ("cancel", "end a run; what is finished stays")):
        one = add_action(actions, name, text)
        one.add_argument("run", metavar="RUN", help="id or outputs folder")
        place_flags(one)
    resume = add_action(actions, "resume", "go on where a run stopped; nothing that exists is computed again")
    resume.add_argument("run", metavar="RUN", help="id or outputs folder")
    resume.add_argument("--rescore", action="store_true", help="score and report again from the stored completions")
    resume.add_argument("--api-key", metavar="KEY", help="the key, if the run was given one literally")
    resume.add_argument("--processes", action="store_true", help="each service in a process of its own")
    resume.add_argument("--runners", type=int, default=1, metavar="N", help="model runners, with --processes")
    resume.add_argument("--ignore-errors", action="store_true", help="exit with 0 although some have no score")
    place_flags(resume)


def _report(parser: Parser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="id, outputs folder or report.json (default: the newest)")
    parser.add_argument("--format", choices=("table", "json", "markdown"), default="table")
    parser.add_argument("--verbose", action="store_true", help="every subset, however many there are")
    place_flags(parser)


def _benchmarks(parser: Parser) -> None:
    actions = add_actions(parser)
    for name, text in (("list", "list benchmarks"), ("info", "show benchmarks"), ("preview", "show samples as asked")):
        one = add_action(actions, name, text)
        if name == "info":
            one.add_argument("names", nargs="+", metavar="NAME")
        if name == "preview":
            one.add_argument("name", metavar="NAME")
            one.add_argument("--samples", type=int, default=1, metavar="N", help="per subset (default: 1)")
            one.add_argument("--dataset-args", default="", metavar="JSON", help="as for `evalmesh eval`")
            one.add_argument("--dataset-dir", default=None, metavar="DIR")
            one.add_argument("--seed", type=int, default=42)
        one.add_argument("--format", choices=("table", "json"), default="table")
        one.add_argument("--server", default=os.environ.get("EVALMESH_SERVER"), metavar="HOST:PORT")
        one.add_argument("--debug", action="store_true", help="show tracebacks")


def _up(parser: Parser) -> None:
    add = parser.add_argument
    add("--address", default="127.0.0.1:9090", metavar="HOST:PORT", help="where it listens (default: %(default)s)")
    add("--work-dir", default="./outputs", metavar="DIR", help="where the platform's data go (default: %(default)s)")
    add("--objects-url", metavar="URL", help="s3://BUCKET/PREFIX instead of a folder; keys come from EVALMESH_S3_*")
    add(
        "--connection",
        action="append",
        default=[],
        metavar="NAME=URL,key=env:VARIABLE",
        help="a model server, and the key that goes there and nowhere else; may be repeated",
    )
    add("--processes", action="store_true", help="each service in a process of its own")
    add("--runners", type=int, default=1, metavar="N", help="model runners, with --processes (default: 1)")
    add("--generators", type=int, default=1, metavar="N", help="processes load tests are spread over (default: 1)")
    add("--debug", action="store_true", help="tracebacks and verbose logs")


def _store(parser: Parser) -> None:
    init = add_action(add_actions(parser), "init", "create and configure a bucket (needs evalmesh[s3])")
    init.add_argument("--url", required=True, metavar="s3://BUCKET/PREFIX", help="the bucket")
    init.add_argument("--debug", action="store_true", help="show tracebacks")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line; ends the process with 2 and a hint when it is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    known, unknown = build_parser(words).parse_known_args(words)
    if unknown:
        known.parser.refuse_unknown(unknown)
    return known
