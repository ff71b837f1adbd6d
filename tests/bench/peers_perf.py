"""Other load generators on the same server, with the same loads, beside `evalmesh perf`.

    python -m tests.bench.peers_perf --venvs DIR [--install NAME ...] [streams|paced|ceiling|faults ...] [--quick]

DIR holds a virtual environment per peer, named as the peer; `--install` makes one from PyPI (1.2 to 2.8 GB each, some
minutes). The peers are EvalScope, AIPerf, GuideLLM and vLLM's benchmark; peers_adapters.py has their versions.
All get the same prompts and are run from exec to exit with as many processes as they like. What they report is compared
with what the server says. Writes outputs/peers_perf.json; a peer that fails is shown as such.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.measure import MIB, PeakMemory, cpu_s, machine, table
from tests.bench.peers_adapters import PEERS, Job
from tests.bench.perf_clients import PACED, Load, Took, command, paced_ideal_s
from tests.bench.perf_clients import took_of as took_of_server
from tests.kit.perf_server import PerfServer, perf_server
from tests.kit.tokenizers import byte_level

REPOSITORY = Path(__file__).parents[2]
FAULTS = {"500": 0.06, "429": 0.05, "reset": 0.05, "cut": 0.05, "truncated": 0.05, "malformed": 0.05}
LONGEST_S = 300


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
    peer = PEERS[name]
    for requirement in peer.requirements:
        words = [str(venv / "bin" / "pip"), "install", "--quiet", *requirement]
        subprocess.run(words, check=True, env={**os.environ, **peer.variables})


def write_prompts(folder: Path, number: int) -> Path:
    """One per line."""
    texts = [f"{i} " + " ".join(f"word{(i * 31 + j) % 997}" for j in range(31)) for i in range(number)]
    lines = folder / "prompts.txt"
    lines.write_text("".join(f"{text}\n" for text in texts))
    return lines


def run_peer(bench: Bench, name: str, server: PerfServer, load: Load) -> Took:
    """From exec to exit; raises `RuntimeError` with what it said."""
    peer = PEERS[name]
    server.reset()
    with tempfile.TemporaryDirectory(prefix="evalmesh-peers-") as place:
        folder = Path(place)
        prompts = write_prompts(folder, load.number)
        job = Job(server.root, load, prompts, byte_level(folder / "tokenizer"), folder / "outputs")
        job.folder.mkdir()
        words = peer.words(job)
        program = bench.venvs / name / "bin" / words[0]
        start = time.monotonic()
        with (folder / "said.txt").open("w") as said:
            child = subprocess.Popen(
                [str(program), *words[1:]], stdout=said, stderr=said, cwd=folder, start_new_session=True
            )
            memory = PeakMemory(child.pid)
            used = 0.0
            try:
                while child.poll() is None and time.monotonic() - start < LONGEST_S:
                    time.sleep(0.02)
                    used = max(used, cpu_s(child.pid))
            finally:
                with suppress(ProcessLookupError):  # Nothing of it is left when it has ended well.
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        memory.stop()
        exec_s = time.monotonic() - start
        if child.returncode:
            text = (folder / "said.txt").read_text()[-1500:]
            raise RuntimeError(f"{name} ended with {child.returncode} after {exec_s:.0f} s:\n{text}")
        found = peer.read(job.folder)
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
            rows[name]["delivered"] = paced_ideal_s(share) / took.wall_s
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
