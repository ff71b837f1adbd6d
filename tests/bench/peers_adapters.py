"""How to install other load generators, what to say to them, and where they write what they found.

Each gets its own defaults for all that a `Job` does not say: processes, workers, timeouts, reports.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.perf_clients import Load


@dataclass(frozen=True)
class Job:
    """A load, as a peer's adapter gets it."""

    root: str
    """Of the server: what `/v1/chat/completions` comes after."""
    load: Load
    prompts: Path
    """A prompt per line, all different."""
    tokenizer: Path
    """A folder as models have it."""
    folder: Path
    """For its outputs."""

    def rows(self, key: str) -> Path:
        """The prompts as JSON lines, each under this key."""
        path = self.prompts.with_suffix(".jsonl")
        texts = self.prompts.read_text().splitlines()
        path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts))
        return path


@dataclass(frozen=True)
class Said:
    """What a peer reports. `None`: it does not."""

    ok: int | None
    failed: int | None
    ttft_ms: dict[str, float]
    e2e_ms: dict[str, float]
    errors: dict[str, int] | None = None
    """Failed requests by kind, in the peer's own words."""


@dataclass(frozen=True)
class Peer:
    requirements: Sequence[Sequence[str]]
    """For `pip install`, one after another."""
    words: Callable[[Job], Sequence[str]]
    """Program (in the environment's `bin`) and arguments."""
    read: Callable[[Path], Said]
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment it is installed in."""


def evalscope_words(job: Job) -> Sequence[str]:
    """As of EvalScope 1.14."""
    load = job.load
    words = ["evalscope", "perf", "--url", f"{job.root}/v1/chat/completions", "--model", "m"]
    words += ["--api", "openai", "--stream"]
    words += ["--parallel", str(load.parallel), "--number", str(load.number)]
    words += ["--dataset", "line_by_line", "--dataset-path", str(job.prompts)]
    words += ["--max-tokens", str(load.tokens), "--min-tokens", str(load.tokens)]
    # Without a tokenizer one answer without usage ends the whole benchmark.
    words += ["--tokenizer-path", str(job.tokenizer)]
    return [*words, "--outputs-dir", str(job.folder), "--no-test-connection"]


def evalscope_read(folder: Path) -> Said:
    summary = json.loads(next(folder.rglob("benchmark_summary.json")).read_text())
    rows = json.loads(next(folder.rglob("benchmark_percentile.json")).read_text())
    by_share = {row["Percentiles"].rstrip("%"): row for row in rows}
    shares = [share for share in ("50", "90", "99") if share in by_share]
    return Said(
        summary["Success Requests"],
        summary["Failed Requests"],
        {f"p{share}": by_share[share]["TTFT (ms)"] for share in shares},
        {f"p{share}": 1e3 * by_share[share]["Latency (s)"] for share in shares},
    )


def aiperf_words(job: Job) -> Sequence[str]:
    """As of AIPerf 0.13, which finds no local tokenizer where HF_HUB_OFFLINE is set."""
    load = job.load
    words = ["aiperf", "profile", "--url", job.root, "--model", "m", "--endpoint-type", "chat", "--streaming"]
    words += ["--concurrency", str(load.parallel), "--request-count", str(load.number)]
    words += ["--input-file", str(job.rows("text")), "--custom-dataset-type", "single-turn", "--osl", str(load.tokens)]
    # Spares it to tokenize the answers again; prompts it counts in any case.
    words += ["--tokenizer", str(job.tokenizer), "--use-server-token-count"]
    words += ["--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"]
    return [*words, "--artifact-dir", str(job.folder)]


def aiperf_read(folder: Path) -> Said:
    found = json.loads((folder / "profile_export_aiperf.json").read_text())
    shares = ("p50", "p90", "p99")
    errors: Counter[str] = Counter()
    for row in found["error_summary"]:
        details = row["error_details"]
        errors[f"{details.get('code') or ''} {details.get('type') or ''}".strip()] += int(row["count"])
    # Counts that are 0 are left out.
    ok = int(found["request_count"]["avg"]) if found.get("request_count") else 0
    return Said(
        ok,
        sum(errors.values()),
        {share: found["time_to_first_token"][share] for share in shares},
        {share: found["request_latency"][share] for share in shares},
        dict(errors),
    )


def guidellm_words(job: Job) -> Sequence[str]:
    """As of GuideLLM 0.8, whose options are lists of `key=value`."""
    load = job.load
    words = ["guidellm", "run", "--disable-console-interactive"]
    words += ["--backend", f"kind=openai_http,target={job.root},model=m,max_tokens={load.tokens}"]
    words += ["--profile", f"kind=concurrent,streams={load.parallel}"]
    words += ["--constraint", f"kind=max_requests,count={load.number}"]
    words += ["--data", f"kind=text_file,path={job.prompts}"]
    return [*words, "--output", f"kind=json,path={job.folder / 'guidellm.json'}"]


def guidellm_read(folder: Path) -> Said:
    (found,) = json.loads((folder / "guidellm.json").read_text())["benchmarks"]
    totals, metrics = found["metrics"]["request_totals"], found["metrics"]
    ttft_ms, e2e_s = (
        metrics[name]["successful"]["percentiles"] for name in ("time_to_first_token_ms", "request_latency")
    )
    shares = ("p50", "p90", "p99")
    return Said(
        totals["successful"],
        totals["errored"] + totals["incomplete"],
        {share: ttft_ms[share] for share in shares},
        {share: 1e3 * e2e_s[share] for share in shares},
        dict(Counter(_kind(row["info"]["error"]) for row in found["requests"]["errored"])),
    )


def vllm_words(job: Job) -> Sequence[str]:
    """As of vLLM 0.19."""
    load = job.load
    words = ["vllm", "bench", "serve", "--backend", "openai-chat", "--model", "m", "--tokenizer", str(job.tokenizer)]
    words += ["--base-url", job.root, "--endpoint", "/v1/chat/completions", "--ready-check-timeout-sec", "0"]
    words += ["--max-concurrency", str(load.parallel), "--num-prompts", str(load.number)]
    words += ["--dataset-name", "custom", "--dataset-path", str(job.rows("prompt")), "--disable-shuffle"]
    words += ["--custom-output-len", str(load.tokens), "--skip-chat-template", "--disable-tqdm"]
    words += ["--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,90,99"]
    return [
        *words,
        "--save-result",
        "--save-detailed",
        "--result-dir",
        str(job.folder),
        "--result-filename",
        "vllm.json",
    ]


def vllm_read(folder: Path) -> Said:
    found = json.loads((folder / "vllm.json").read_text())
    shares = ("p50", "p90", "p99")
    # A traceback, or the reason of a status.
    errors = (error.strip().splitlines()[-1].partition(":")[0] for error in found["errors"] if error)
    return Said(
        found["completed"],
        found["failed"],
        {share: found[f"{share}_ttft_ms"] for share in shares},
        {share: found[f"{share}_e2el_ms"] for share in shares},
        dict(Counter(errors)),
    )


def _kind(error: str) -> str:
    """Of an exception as `repr` writes it: its class, and the status if it has one. The rest tells URLs and places."""
    name = error.partition("(")[0]
    status = re.search(r"\b[45]\d\d\b", error) if name == "HTTPStatusError" else None
    return f"{name} {status[0]}" if status else name


PEERS = {
    "evalscope": Peer([["evalscope[perf]==1.14.1"]], evalscope_words, evalscope_read),
    "aiperf": Peer([["aiperf==0.13.0"]], aiperf_words, aiperf_read),
    # With torch first, its CPU build is kept where an index has one; GuideLLM's own wish may bring CUDA along.
    "guidellm": Peer([["torch==2.13.0"], ["guidellm==0.8.1"]], guidellm_words, guidellm_read),
    # From source and for no device: its benchmark needs none, and its wheel wants CUDA.
    "vllm": Peer(
        [
            ["torch==2.13.0"],
            ["setuptools", "setuptools-scm", "wheel", "packaging", "ninja", "cmake", "jinja2", "numpy"],
            ["--no-build-isolation", "--no-binary", "vllm", "vllm[bench]==0.19.1"],
        ],
        vllm_words,
        vllm_read,
        {"VLLM_TARGET_DEVICE": "empty"},
    ),
}
