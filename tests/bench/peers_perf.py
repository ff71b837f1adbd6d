"""Other load generators on the same server, with the same loads, beside `evalmesh perf`.

    python -m tests.bench.peers_perf --venvs DIR [--install evalscope] [streams|paced|ceiling|faults ...] [--quick]

DIR holds a virtual environment per peer, named as the peer; `--install` makes one from PyPI (evalscope takes 1.2 GB).
All get the same prompts, from one file, and are run from exec to exit with as many processes as they like. What they
report is compared with what the server says. Writes outputs/peers_perf.json; a peer that fails is shown as such.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.measure import MIB, PeakMemory, cpu_s, machine, table
from tests.bench.perf_clients import Load, Took, command, ideal_s
from tests.bench.perf_clients import took_of as took_of_server
from tests.kit.perf_server import PerfServer, perf_server
from tests.kit.tokenizers import byte_level

REPOSITORY = Path(__file__).parents[2]
PACED = ("--ttft", "50ms", "--itl", "10ms", "--realtime")
FAULTS = {"500": 0.06, "429": 0.05, "reset": 0.05, "cut": 0.05, "truncated": 0.05, "malformed": 0.05}
LONGEST_S = 300


@dataclass(frozen=True)
class Job:
    """A load, as a peer's adapter gets it."""

    url: str
    """Of chat completions."""
    load: Load
    prompts: Path
    """A prompt per line, all different."""
    tokenizer: Path
    """A folder as models have it."""
    folder: Path
    """For its outputs."""


@dataclass(frozen=True)
class Said:
    """What a peer reports. `None`: it does not."""

    ok: int | None
    failed: int | None
    ttft_ms: dict[str, float]
    e2e_ms: dict[str, float]


@dataclass(frozen=True)
class Peer:
    requirement: str
    """For pip."""
    words: Callable[[Job], Sequence[str]]
    """Program (in the environment's `bin`) and arguments."""
    read: Callable[[Path], Said]


def evalscope_words(job: Job) -> Sequence[str]:
    """As of EvalScope 1.14."""
    load = job.load
    words = ["evalscope", "perf", "--url", job.url, "--model", "m", "--api", "openai", "--stream"]
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


PEERS = {"evalscope": Peer("evalscope[perf]==1.14.1", evalscope_words, evalscope_read)}


@dataclass
class Bench:
    venvs: Path | None
    peers: Sequence[str]
    quick: bool

    def size(self, whole: int) -> int:
        return max(64, whole // 10) if self.quick else whole


def install(name: str, venvs: Path) -> None:
    venv = venvs / name
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", PEERS[name].requirement], check=True)


def write_prompts(path: Path, number: int) -> Path:
    path.write_text(
        "".join(f"{i} " + " ".join(f"word{(i * 31 + j) % 997}" for j in range(31)) + "\n" for i in range(number))
    )
    return path


def run_peer(bench: Bench, name: str, server: PerfServer, load: Load) -> Took:
    """From exec to exit; raises `RuntimeError` with what it said."""
    peer = PEERS[name]
    server.reset()
    with tempfile.TemporaryDirectory(prefix="evalmesh-peers-") as place:
        folder = Path(place)
        prompts, tokenizer = write_prompts(folder / "prompts.txt", load.number), byte_level(folder / "tokenizer")
        words = peer.words(Job(server.chat_url, load, prompts, tokenizer, folder / "outputs"))
        program = bench.venvs / name / "bin" / words[0]
        start = time.monotonic()
        with (folder / "said.txt").open("w") as said:
            child = subprocess.Popen([str(program), *words[1:]], stdout=said, stderr=said, cwd=folder)
            memory = PeakMemory(child.pid)
            used = 0.0
            while child.poll() is None and time.monotonic() - start < LONGEST_S:
                time.sleep(0.02)
                used = max(used, cpu_s(child.pid))
            child.kill()
            child.wait()
        memory.stop()
        exec_s = time.monotonic() - start
        if child.returncode:
            text = (folder / "said.txt").read_text()[-1500:]
            raise RuntimeError(f"{name} ended with {child.returncode} after {exec_s:.0f} s:\n{text}")
        found = peer.read(folder)
    took = took_of_server(name, server, start, exec_s, number=load.number)
    took.cpu_s, took.ttft_ms, took.e2e_ms = used, found.ttft_ms, found.e2e_ms
    took.more = {"said": asdict(found), "rss_bytes": memory.total_bytes}
    return took


def ours(server: PerfServer, load: Load) -> Took:
    took = command(server, load, "--ignore-errors")
    level = took.more["levels"][-1]
    took.more = {"said": {"ok": level["ok"], "failed": sum(level["errors"].values()), "errors": level["errors"]}}
    return took


def everybody(bench: Bench, server: PerfServer, load: Load, their_number: int | None = None) -> dict[str, Took]:
    """Ours first; peers that fail are told and left out."""
    found = {"evalmesh": ours(server, load)}
    theirs = Load(their_number or load.number, load.tokens, load.parallel)
    for name in bench.peers:
        try:
            found[name] = run_peer(bench, name, server, theirs)
        except Exception:  # noqa: BLE001  (the others still tell something)
            traceback.print_exc()
    return found


def timed(bench: Bench, title: str, load: Load, flags: Sequence[str], their_number: int | None = None) -> dict:
    with perf_server(*flags) as server:
        found = everybody(bench, server, load, their_number)
    numbers = {name: load.number if name == "evalmesh" else their_number or load.number for name in found}
    rows = {}
    for name, took in found.items():
        rows[name] = {
            "per_s": took.ok / took.wall_s,
            "cpu_s_per_1000": 1000 * took.cpu_s / numbers[name],
            "before_s": took.before_s,
            "after_s": took.after_s,
            "said": took.more["said"],
            "rss_mib": took.more.get("rss_bytes", 0) / MIB,
            "ttft_error_ms": _errors(took, "ttft_ms"),
            "e2e_error_ms": _errors(took, "e2e_ms"),
        }
        if flags is PACED:
            share = Load(numbers[name], load.tokens, load.parallel)
            rows[name]["delivered"] = ideal_s(share, 0.05, 0.01) / took.wall_s
    mine = rows["evalmesh"]
    table(
        title,
        ("", "requests/s", "of ideal", "CPU s/1,000", "x ours", "before s", "after s", "TTFT err p50", "p99", "E2E"),
        [
            (name, r["per_s"], f"{r['delivered']:.0%}" if "delivered" in r else "", r["cpu_s_per_1000"],
             r["cpu_s_per_1000"] / mine["cpu_s_per_1000"], r["before_s"], r["after_s"],
             *(r["ttft_error_ms"].get(p, "") for p in ("p50", "p99")), r["e2e_error_ms"].get("p99", ""))
            for name, r in rows.items()
        ],
    )  # fmt: skip
    return rows


def _errors(took: Took, metric: str) -> dict[str, float]:
    said, true = getattr(took, metric), took.server[metric] or {}
    return {p: said[p] - true[p] for p in ("p50", "p99") if said.get(p) is not None and p in true}


def streams(bench: Bench) -> dict:
    load = Load(bench.size(2000), 64, parallel=64)
    return timed(bench, f"{load.number:,} streams of 64 tokens, 64 in flight", load, PACED)


def paced(bench: Bench) -> dict:
    load = Load(bench.size(5120), 64, parallel=256)
    return timed(bench, f"{load.number:,} streams of 64 tokens, 256 in flight, 24,094 tokens/s", load, PACED)


def ceiling(bench: Bench) -> dict:
    load = Load(bench.size(20_000), 16, parallel=64)
    return timed(bench, "No latency, 16 tokens, 64 in flight", load, ("--realtime",), bench.size(5000))


def faults(bench: Bench) -> dict:
    """How many answers each takes for successes."""
    load = Load(600, 16, parallel=32)
    flags = [word for kind, rate in FAULTS.items() for word in ("--fault", f"{kind}={rate}")]
    with perf_server("--ttft", "10ms", "--itl", "2ms", *flags) as server:
        found = everybody(bench, server, load)
    rows = {
        name: {"truth": took.server["outcomes"], "sound": took.server["outcomes"]["ok"], "said": took.more["said"]}
        for name, took in found.items()
    }
    table(
        f"Faults: {load.number} requests, some of which end badly",
        ("", "requests seen", "sound", "called successes", "too many", "errors told apart"),
        [
            (name, sum(r["truth"].values()), r["sound"], r["said"]["ok"], (r["said"]["ok"] or 0) - r["sound"],
             len(r["said"].get("errors") or {}))
            for name, r in rows.items()
        ],
    )  # fmt: skip
    return rows


PARTS: dict[str, Callable[[Bench], dict]] = {
    "streams": streams,
    "paced": paced,
    "ceiling": ceiling,
    "faults": faults,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parser.add_argument("--venvs", type=Path, help="folder with a virtual environment per peer")
    parser.add_argument("--install", nargs="+", default=[], choices=[*PEERS], help="make these first")
    parser.add_argument("--only", nargs="+", choices=[*PEERS], help="of the peers that are there")
    parser.add_argument("--quick", action="store_true", help="few requests: whether it works, not how fast")
    options = parser.parse_args()
    if options.install and options.venvs is None:
        parser.error("--install needs --venvs, the folder to install into")
    for name in options.install:
        install(name, options.venvs)
    there = [name for name in options.only or PEERS if options.venvs and (options.venvs / name / "bin").is_dir()]
    print(f"peers: {', '.join(there) or 'none (see --venvs and --install); ours alone'}")
    bench = Bench(options.venvs, there, options.quick)
    begin = time.perf_counter()
    figures: dict[str, object] = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "quick": options.quick}
    for name, part in PARTS.items():
        if not options.parts or name in options.parts:
            figures[name] = part(bench)
    target = REPOSITORY / "outputs" / "peers_perf.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures | {"took_s": time.perf_counter() - begin}, indent=2, default=float))
    print(f"\nall figures are in {target.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
