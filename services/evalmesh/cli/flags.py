"""The flags of all commands. Imports nothing heavy: `evalmesh --help` must be instant."""

import argparse
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from evalmesh.cli.eval.keys import TASK_ADVICE
from evalmesh.cli.eval.options import TaskOptions
from evalmesh.cli.exits import BAD_INPUT, HELP
from evalmesh.cli.foreign import FOREIGN_COMMANDS
from evalmesh.cli.parser import (
    Parser,
    PlaceOptions,
    add_actions,
    add_command,
    add_foreign,
    add_options,
    config_flag,
    form_flag,
    output_flags,
    whole,
)
from evalmesh.domain.limit import MOST_PREVIEWED

_DESCRIPTION = """\
Evaluates models, on one machine or across a cluster.

try:
    evalmesh eval --demo
    evalmesh eval --model my-model --api-url http://127.0.0.1:8000/v1 --datasets gsm8k arc --limit 5
"""


_OF_RUNS = ("list", "show", "watch", "cancel", "resume", "delete", "prune", "export")


class _Version(argparse.Action):
    def __call__(self, parser: ArgumentParser, *_: Any) -> None:
        version = import_module("importlib.metadata").version("evalmesh")
        print(f"evalmesh {version}")
        parser.exit()


def build_parser(argv: Sequence[str]) -> Parser:
    """The parser of the whole command line; only the command that `argv` names gets its flags."""
    parser = Parser(prog="evalmesh", description=_DESCRIPTION, epilog=HELP)
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=SUPPRESS, default=SUPPRESS, help="print the version and exit"
    )
    parser.meant = {word: f"`{parser.prog} runs {word}`" for word in _OF_RUNS}
    parser.meant |= FOREIGN_COMMANDS
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    named = next((word for word in argv if not word.startswith("-")), "")
    for name, (module, text, add) in COMMANDS.items():
        command = add_command(commands, name, text)
        command.set_defaults(module=module)
        if name == named:
            add(command, argv[argv.index(name) + 1 :])
    return parser


def whole_parser() -> Parser:
    """The parser with the flags of every command, for completion."""
    parser = build_parser([])
    commands: Any = next(action for action in parser._actions if action.dest == "command")  # noqa: SLF001
    for name, (_, _, add) in COMMANDS.items():
        add(commands.choices[name], [])
    # The one command that has actions beside flags of its own.
    COMMANDS["perf"][2](commands.choices["perf"], ["list"])
    return parser


def _config(parser: Parser, _: Sequence[str]) -> None:
    show = add_command(add_actions(parser), "show", "show each option's value, and where it comes from")
    show.add_argument("of", nargs="?", choices=("eval", "perf"), default="eval", help="the command (default: eval)")
    show.add_argument("--all", action="store_true", help="also what has its default")
    config_flag(show)
    form_flag(show)
    add_options(show, PlaceOptions, {"debug": ""})


def _completion(parser: Parser, _: Sequence[str]) -> None:
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish", "tcsh"), help="e.g. source <(evalmesh completion bash)"
    )
    add_options(parser, PlaceOptions, {"debug": ""})


def _doctor(parser: Parser, _: Sequence[str]) -> None:
    own = {"model": "also ask this model", "api_url": "at this address"}
    same = ("api_key", "headers", "ca_file", "insecure", "request_kind", "dataset_dir")
    add_options(parser, TaskOptions, own | dict.fromkeys(same, ""))
    form_flag(parser)
    add_options(parser, PlaceOptions, {"work_dir": "", "debug": ""})


def _eval(parser: Parser, _: Sequence[str]) -> None:
    config_flag(parser)
    add_options(parser, TaskOptions, said_only=True)
    add_options(parser, PlaceOptions, said_only=True)
    add_foreign(parser, TASK_ADVICE)


def _score(parser: Parser, _: Sequence[str]) -> None:
    parser.description = (
        "Scores completions made elsewhere, with the scorer and the report of a run.\n\n"
        "FILE is JSON Lines (also JSON, CSV, TSV, Parquet, and .gz); each row has\n"
        '  "id" (the sample\'s) or "index" (0-based row in the data) with "subset" where there are several,\n'
        '  optionally "repeat" (0-based),\n'
        '  and the answer as "text", "completion" or "output".\n'
        "Predictions, reviews and results of evalmesh, those of EvalScope, and samples_*.jsonl of lm-eval go as well."
    )
    add = parser.add_argument
    add("--dataset", "--datasets", required=True, metavar="NAME", help="the benchmark that was answered")
    add("--completions", required=True, metavar="FILE", help="completions, see above")
    own = {
        "model": "what the report calls the model (default: recorded)",
        "dataset_args": "as for `evalmesh eval`; may also be for one benchmark",
        "repeats": "completions per sample",
        "on_error": "samples without a completion",
    }
    same = (
        "dataset_dir",
        "dataset_hub",
        "dataset_id",
        "limit",
        "ignore_errors",
        "no_timestamp",
        "overwrite",
        "no_predictions",
        "name",
        "labels",
    )
    add_options(parser, TaskOptions, own | dict.fromkeys(same, ""), said_only=True)
    add_options(parser, PlaceOptions, said_only=True)


def _report(parser: Parser, _: Sequence[str]) -> None:
    text = "id, outputs folder or report.json (default: the newest); several are put side by side"
    parser.add_argument("runs", nargs="*", metavar="RUN", help=text)
    output_flags(parser, "latex")
    parser.add_argument("--verbose", action="store_true", help="every subset, however many there are")
    add_options(parser, PlaceOptions)


def _compare(parser: Parser, _: Sequence[str]) -> None:
    parser.description = (
        "Compares runs with a baseline, sample by sample: the difference with its interval, what was won and lost, and"
        "\nwhether that is more than chance.\n\n"
        "A gate is BENCHMARK[/SUBSET][:METRIC]>=GAIN ('gsm8k>=-0.01'), 'BENCHMARK better' or 'BENCHMARK not-worse';\n"
        "without a benchmark ('not-worse') it is about each of them."
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="ids, outputs folders or report.json files; the first is the baseline")
    add("--datasets", nargs="+", metavar="NAME", help="only these benchmarks")
    add("--all-metrics", action="store_true", help="every metric, not the primary ones alone")
    text = "show samples that differ, N of each benchmark (default: 20; all in JSON and CSV)"
    add("--flips", nargs="?", type=int, const=-1, metavar="N", help=text)
    add(
        "--gate",
        action="append",
        default=[],
        metavar="GATE",
        help="what must hold, else exit code 7 or 8; may be repeated",
    )
    text = "what decides a GAIN: the whole 95%% interval, or the measured difference alone (default: interval)"
    add("--gate-by", choices=("interval", "estimate"), default="interval", help=text)
    add("--force", action="store_true", help="compare what may have been scored unlike, too")
    output_flags(parser)
    add("--verbose", action="store_true", help="every subset, however many there are")
    add_options(parser, PlaceOptions)


def _samples(parser: Parser, _: Sequence[str]) -> None:
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="id, part of one, name, outputs folder, latest (default: the newest)")
    add("sample", nargs="?", metavar="ID", help="show this one whole; ID#1 is its second repeat")
    for grade, text in (
        ("right", "full marks"),
        ("wrong", "scored below full marks"),
        ("no_answer", "nothing that could be an answer was found"),
        ("errored", "the model gave no completion"),
        ("unscored", "a completion that could not be judged"),
    ):
        flag = f"--{grade.replace('_', '-')}"
        add(flag, dest="grades", action="append_const", const=grade, help=f"{text}; several of these add up")
    add("--benchmark", default="", metavar="NAME", help="only this one")
    add("--subset", default="", metavar="NAME", help="only this one")
    add(
        "--grep",
        default="",
        metavar="TEXT",
        help="in question, target, completion, answer, reason; case does not count",
    )
    add("--order-by", default="", metavar="COLUMN", help="e.g. score, 'latency_s desc' (default: as planned)")
    add("--columns", nargs="+", metavar="COLUMN", help="only these; see docs/report-schema.md")
    add("--limit", type=int, metavar="N", help="per benchmark; 0: all (default: 20 in a table, else all)")
    add("--format", choices=("table", "jsonl", "csv", "md"), default="table")
    add_options(parser, PlaceOptions)


def _benchmarks(parser: Parser, _: Sequence[str]) -> None:
    actions = add_actions(parser)
    for name, text in (
        ("list", "list benchmarks"),
        ("info", "show benchmarks: what they measure, where their data is from, its licence"),
        ("show", "the same as info"),
        ("preview", "show samples as asked"),
    ):
        one = add_command(actions, name, text)
        if name in {"info", "show"}:
            one.add_argument("names", nargs="+", metavar="NAME")
        if name == "preview":
            one.add_argument("name", metavar="NAME")
            one.add_argument(
                "--samples", type=whole(1, MOST_PREVIEWED), default=1, metavar="N", help="per subset (default: 1)"
            )
            own = {"dataset_args": "as for `evalmesh eval`", "dataset_dir": "", "dataset_hub": "", "seed": ""}
            add_options(one, TaskOptions, own)
        form_flag(one)
        add_options(one, PlaceOptions, {"server": "", "debug": ""})


def _up(parser: Parser, _: Sequence[str]) -> None:
    add = parser.add_argument
    add("--address", default="127.0.0.1:9090", metavar="HOST:PORT", help="where it listens (default: %(default)s)")
    add("--objects-url", metavar="URL", help="s3://BUCKET/PREFIX instead of a folder; keys come from EVALMESH_S3_*")
    add(
        "--connection",
        action="append",
        default=[],
        metavar="NAME=URL,key=env:VARIABLE",
        help="a model server, and the key that goes there and nowhere else; may be repeated",
    )
    add(
        "--generators",
        type=whole(0, 64),
        default=1,
        metavar="N",
        help="processes load tests are spread over (default: 1)",
    )
    add_options(parser, TaskOptions, {"processes": "", "runners": ""})
    add_options(parser, PlaceOptions, {"work_dir": "where the platform's data go", "debug": ""})


def _store(parser: Parser, _: Sequence[str]) -> None:
    actions = add_actions(parser)
    init = add_command(actions, "init", "create and configure a bucket (needs evalmesh[s3])")
    init.add_argument("--url", required=True, metavar="s3://BUCKET/PREFIX", help="the bucket")
    add_options(init, PlaceOptions, {"debug": ""})
    text = "show what no run and no load test refers to any more, and with --delete remove it"
    collect = add_command(actions, "gc", text)
    collect.add_argument("--delete", action="store_true", help="remove it; without, it is only shown")
    collect.add_argument(
        "--min-age", default="1d", metavar="AGE", help="leave what was written since: 90m, 12h, 30d (default: 1d)"
    )
    form_flag(collect)
    add_options(collect, PlaceOptions)


def _elsewhere(module: str) -> Callable[[Parser, Sequence[str]], None]:
    """For the flags that a room of its own brings."""
    return lambda parser, argv: import_module(module).add_arguments(parser, argv)


def _simulate(parser: Parser, _: Sequence[str]) -> None:
    import_module("evalmesh.simulator.cli").add_arguments(parser)
    add_options(parser, PlaceOptions, {"debug": ""})


COMMANDS: Mapping[str, tuple[str, str, Callable[[Parser, Sequence[str]], None]]] = {
    "eval": ("eval.command", "evaluate a model and print the report", _eval),
    "perf": ("perf.command", "load-test an endpoint", _elsewhere("evalmesh.cli.perf.flags")),
    "score": ("eval.score_command", "score completions made elsewhere", _score),
    "runs": (
        "runs.command",
        "list, show, watch, cancel, resume, delete or export runs",
        _elsewhere("evalmesh.cli.runs.flags"),
    ),
    "report": ("eval.report_command", "print the report of a run, or of several side by side", _report),
    "compare": ("eval.compare_command", "compare runs with a baseline, sample by sample", _compare),
    "samples": ("eval.samples_command", "look at answers: filter, search, show one whole", _samples),
    "benchmarks": ("eval.benchmarks_command", "list benchmarks, show one, preview its prompts", _benchmarks),
    "datasets": (
        "datasets.command",
        "fetch data sets beforehand, list files to bring, show what is kept",
        _elsewhere("evalmesh.cli.datasets.flags"),
    ),
    "up": ("platform.up_command", "keep the platform running on this machine", _up),
    "simulate": ("platform.simulate_command", "serve a simulated model over the OpenAI protocol", _simulate),
    "config": ("platform.config_command", "show options and where they come from", _config),
    "doctor": ("platform.doctor_command", "check this machine, the platform, and an endpoint", _doctor),
    "completion": ("platform.completion_command", "print the completion script of a shell", _completion),
    "store": ("platform.store_command", "prepare an object store, or remove what nothing refers to", _store),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line; ends the process with 2 and a hint when it is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        build_parser(words).print_help(sys.stderr)
        raise SystemExit(BAD_INPUT)
    known, unknown = build_parser(words).parse_known_args(words)
    if unknown:
        known.parser.refuse_unknown(unknown)
    return known
