"""Load tests on a warm platform, in this process, driven by the SDK; prints when things happened as JSON.

    python tests/bench/platform_perf.py '{"url": "http://.../v1/chat/completions",
                                          "tests": [{"parallel": 8, "number": 100}]}'

Times are of `time.monotonic()`, as the judge's are. `report_at_s` is when the figures were in hand.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from measure import cpu_s

from evalmesh.domain.load_test import ArrivalSpec, Lengths, LoadLevel, LoadTarget, LoadTestSpec, PromptSpec
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.telemetry import configure_logging
from evalmesh.sdk import AsyncClient


def spec_of(job, wish):
    tokens, prompt = job.get("tokens", 16), job.get("prompt", 32)
    rate = wish.get("rate", 0.0)
    return LoadTestSpec(
        LoadTarget(url=job["url"], model="m"),
        PromptSpec(input_tokens=Lengths("fixed", prompt, prompt), output_tokens=Lengths("fixed", tokens, tokens)),
        ArrivalSpec(wish.get("arrival", "constant" if rate else "closed")),
        (LoadLevel(wish.get("parallel", 0), rate, wish["number"]),),
        generators=wish.get("generators", 1),
        server_metrics=(),
        check_endpoint=False,
    )


async def main(job):
    found = []
    with tempfile.TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        settings = LocalSettings(Path(folder), generators=job.get("generators", 1))
        async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
            for wish in job["tests"]:
                cpu, asked_at_s = cpu_s(os.getpid()), time.monotonic()
                test = await client.create_load_test(spec_of(job, wish))
                test = await client.wait_load_test(test)
                ended_at_s = time.monotonic()
                report = await client.perf_report(test)
                found.append(
                    {
                        "asked_at_s": asked_at_s,
                        "ended_at_s": ended_at_s,
                        "report_at_s": time.monotonic(),
                        "state": str(test.state),
                        "cpu_s": cpu_s(os.getpid()) - cpu,
                        "level": {
                            key: report["levels"][0][key]
                            for key in ("ok", "errors", "ttft_ms", "itl_ms", "e2e_ms", "request_rate", "client_limited")
                        },
                    }
                )
    print(json.dumps(found))


if __name__ == "__main__":
    configure_logging("bench", "ERROR")
    uvloop.run(main(json.loads(sys.argv[1])))
