"""A load test from Python: a config in, the document out (docs/perf-schema.md)."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from evalmesh import PerfConfig, run_perf

SIMULATE = [Path(sys.executable).with_name("evalmesh"), "simulate", "--port", "0", "--ttft", "40ms", "--itl", "5ms"]

with (
    tempfile.TemporaryDirectory() as folder,
    subprocess.Popen(SIMULATE, stdout=subprocess.PIPE, text=True) as server,
):
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    assert found is not None, "the simulator did not start"
    try:
        perf = run_perf(
            PerfConfig(
                url=f"{found[0]}/chat/completions",
                model="simulated",
                parallel=[1, 4],
                number=[10, 40],
                max_prompt_length=64,
                min_prompt_length=64,
                max_tokens=16,
                sleep_interval=0,
                work_dir=folder,
            )
        )
    finally:
        server.terminate()

for level in perf["levels"]:
    ttft = level["ttft_ms"]
    print(f"{level['label']}: {level['ok']} of {level['planned']} ok, {level['request_rate']:.1f} requests/s, TTFT p50")
    print(f"  {ttft['p50']:.0f} ms, p99 {ttft['p99']:.0f} ms; the client was the bottleneck: {level['client_limited']}")
