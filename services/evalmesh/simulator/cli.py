"""The command line: `evalmesh simulate` and `python -m evalmesh.simulator`."""

import argparse
import asyncio
import errno
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, get_args

from evalmesh.domain.errors import EvalmeshError, InvalidInput
from evalmesh.simulator.distribution import ZERO, parse_distribution, parse_freeze
from evalmesh.simulator.faults import TRANSPORT_KINDS, Fault, parse_fault
from evalmesh.simulator.render import Style
from evalmesh.simulator.server import Simulator
from evalmesh.simulator.settings import LikelihoodForm, SimulatorSettings
from evalmesh.simulator.skill import Skill
from evalmesh.simulator.truth import DEFAULT_SIZE

T = TypeVar("T")

_DEFAULT_PORT = 8801
_USAGE_ERROR = 2


def _reader(read: Callable[[str], T]) -> Callable[[str], T]:
    """Lets argparse show our own sentences."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except InvalidInput as error:
            raise argparse.ArgumentTypeError(error.message) from None

    return convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds every flag of the simulator; `settings_from_args` reads them back."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=_DEFAULT_PORT, help="port to listen on, 0 for a free one (default: %(default)s)")
    add("--api-key", default="", help="required bearer token (default: none)")
    add("--model", action="append", default=[], help="model name served; repeatable (default: any name is)")
    add("--max-body-bytes", type=int, default=32 * 1024 * 1024, help="longest request body (default: 32 MiB)")
    add(
        "--truth",
        type=int,
        nargs="?",
        default=0,
        const=DEFAULT_SIZE,
        metavar="N",
        help="keep the times of the last N requests for GET /truth (N without a value: 200000; default: none)",
    )
    add(
        "--likelihoods",
        nargs="*",
        choices=get_args(LikelihoodForm),
        default=get_args(LikelihoodForm),
        metavar="FORM",
        help="calls that tell what a given text is worth: echo, prompt_logprobs, generate (default: all)",
    )
    add("--rerank-form", choices=("jina", "cohere"), default="jina", help="shape of /v1/rerank (default: jina)")
    _add_metrics(parser.add_argument_group("what it tells Prometheus"))
    _add_knowledge(parser.add_argument_group("what the model knows"))
    _add_latency(parser.add_argument_group("how fast it is"))
    group = parser.add_argument_group("what goes wrong")
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        type=_reader(parse_fault),
        metavar="KIND:COND",
        help=f"KIND is a status (500, 429) or {', '.join(TRANSPORT_KINDS)}; COND is every=N, rate=R, sample=ID, "
        "tries=N or several; options: retry_after=2s, pause=10s, after=TOKENS; repeatable",
    )
    group.add_argument(
        "--fail-sample", action="append", default=[], metavar="ID", help="sample that always gets status 500"
    )


def _add_metrics(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add(
        "--metrics",
        choices=("vllm", "sglang", "tgi", "none"),
        default="vllm",
        help="whose names /metrics uses (default: vllm)",
    )
    add("--gpu-metrics", action="store_true", help="tell of a GPU too, as DCGM's exporter does")
    add("--kv-tokens", type=int, default=400_000, metavar="N", help="tokens the KV cache holds (default: 400000)")


def _add_knowledge(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--benchmarks", "--datasets", nargs="+", default=[], metavar="NAME", help="benchmarks to learn")
    add("--dataset-args", default="{}", metavar="JSON", help='as for a run: {"gsm8k": {"local_path": "..."}}')
    add("--dataset-dir", default="", metavar="DIR", help="where data sets lie, as for a run")
    add(
        "--skill",
        action="append",
        default=[],
        metavar="P",
        help="probability of a right answer, P or BENCHMARK=P; repeatable (default: 0.75)",
    )
    add("--seed", type=int, default=0, help="fixes answers, wordings, latencies and faults (default: 0)")
    add("--awkwardness", type=float, default=0.5, help="0: one plain wording; 1: all odd ones (default: 0.5)")
    add("--reasoning-content", action="store_true", help="put thinking into reasoning_content")


def _add_latency(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    shape = "200ms, uniform:low=,high=, exponential:mean=, lognormal:median=,sigma=, pareto:min=,alpha=[,max=], "
    shape += "bursty:base=,burst=,share="
    add("--ttft", default=ZERO, type=_reader(lambda text: parse_distribution(text, "ttft")), metavar="DIST", help=shape)
    add(
        "--itl",
        default=ZERO,
        type=_reader(lambda text: parse_distribution(text, "itl")),
        metavar="DIST",
        help="time between tokens, written the same way",
    )
    add(
        "--output-tokens",
        type=_reader(lambda text: parse_distribution(text, "output-tokens", "count")),
        metavar="DIST",
        help="length of replies: 128, or a distribution of counts",
    )
    add("--tokens-per-chunk", type=int, default=1, metavar="N", help="tokens per event of a stream (default: 1)")
    add("--template-tokens", type=int, default=0, metavar="N", help="tokens the chat template adds (default: 0)")
    add("--cached-share", type=float, default=0.0, metavar="P", help="share of prompt tokens reported as cached")
    add("--max-concurrency", type=int, default=0, metavar="N", help="requests worked on at a time (default: no bound)")
    add("--overload", choices=("queue", "reject"), default="queue", help="beyond that: wait, or 429 (default: queue)")
    add("--freeze", type=_reader(parse_freeze), metavar="PAUSE/PERIOD", help="say nothing for 1s in every 5s: 1s/5s")


def settings_from_args(ns: argparse.Namespace) -> SimulatorSettings:
    """Raises `InvalidInput` for values argparse cannot judge by themselves."""
    return SimulatorSettings(
        skill=_skill(ns.skill, ns.seed),
        style=Style(ns.awkwardness, reasoning_content=ns.reasoning_content),
        ttft=ns.ttft,
        itl=ns.itl,
        output_tokens=ns.output_tokens,
        tokens_per_chunk=ns.tokens_per_chunk,
        template_tokens=ns.template_tokens,
        cached_share=ns.cached_share,
        max_concurrency=ns.max_concurrency,
        overload=ns.overload,
        freeze=ns.freeze,
        faults=(*(Fault("500", sample=sample) for sample in ns.fail_sample), *ns.fault),
        api_key=ns.api_key,
        models=tuple(ns.model),
        max_body_bytes=ns.max_body_bytes,
        rerank_form=ns.rerank_form,
        likelihoods=frozenset(ns.likelihoods),
        metrics=ns.metrics,
        gpu_metrics=ns.gpu_metrics,
        kv_tokens=ns.kv_tokens,
        truth_size=ns.truth,
        benchmarks=tuple(ns.benchmarks),
        dataset_args=_dataset_args(ns.dataset_args),
        dataset_dir=ns.dataset_dir,
    )


def _skill(texts: Sequence[str], seed: int) -> Skill:
    default = Skill().default
    by_benchmark: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise InvalidInput(
                f"--skill {text!r} is not understood; write P or BENCHMARK=P, as in gsm8k=0.6."
            ) from None
        if equals:
            by_benchmark[name] = number
        else:
            default = number
    return Skill(seed, default, by_benchmark)


def _dataset_args(text: str) -> dict[str, dict[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--dataset-args is no JSON: {error}.") from None
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        raise InvalidInput("--dataset-args must be an object of objects, one per benchmark.")
    return value


async def serve(settings: SimulatorSettings, host: str, port: int) -> None:
    """Runs until SIGINT or SIGTERM; prints one line when ready."""
    simulator = Simulator(settings)
    url = await simulator.start(host, port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    sys.stdout.write(f"evalmesh simulator: {url}\n")
    sys.stdout.flush()
    await stopped.wait()
    await simulator.stop()


def _in_flags(error: EvalmeshError) -> str:
    """The message with the flag in place of the setting."""
    field = error.details.get("field", "")
    flag = "--truth" if field == "truth_size" else f"--{field.replace('_', '-')}"
    return f"{flag}{error.message[len(field) :]}" if field and error.message.startswith(f"{field}:") else error.message


def run(ns: argparse.Namespace) -> int:
    """Serves until a signal; returns the exit code."""
    try:
        settings = settings_from_args(ns)
        _run_loop(serve(settings, ns.host, ns.port))
    except EvalmeshError as error:
        sys.stderr.write(f"evalmesh: {_in_flags(error)}\n")
        return _USAGE_ERROR
    except OSError as error:
        taken = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror or error
        sys.stderr.write(f"evalmesh: the simulator cannot listen at {ns.host}:{ns.port}: {taken}; name another port.\n")
        return _USAGE_ERROR
    return 0


def _run_loop(work: Any) -> None:
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m evalmesh.simulator`."""
    parser = argparse.ArgumentParser(prog="evalmesh simulate", description="An OpenAI-compatible server that pretends.")
    add_arguments(parser)
    return run(parser.parse_args(argv))
