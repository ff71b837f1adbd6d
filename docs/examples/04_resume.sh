#!/usr/bin/env bash
# Kills an evaluation in the middle and goes on with it: what was answered is not asked again.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
cd "$(mktemp -d)"

# A slow model, so that there is a middle: 50 ms per answer, four at a time.
evalmesh simulate --port 0 --benchmarks starter_math --ttft 50ms --max-concurrency 4 >simulator.log &
simulator=$!
trap 'kill $simulator' EXIT
until grep -qs http simulator.log; do kill -0 $!; sleep 0.05; done
url=$(grep -o 'http://[^ ]*' simulator.log)

asked() {
  python3 - "$url" <<'PYTHON'
import json, sys, urllib.request

with urllib.request.urlopen(sys.argv[1].removesuffix("/v1") + "/stats?samples=0") as answer:
    print(json.load(answer)["requests"])
PYTHON
}

evalmesh eval --model simulated --api-url "$url" --datasets starter_math --eval-batch-size 4 &
victim=$!
until [ "$(asked)" -gt 30 ]; do sleep 0.1; done
kill -9 "$victim"
wait "$victim" 2>/dev/null || echo "killed in the middle"

run=$(evalmesh runs list --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
evalmesh runs resume "$run"

echo "samples: $(wc -l <outputs/*/predictions/simulated/starter_math_default.jsonl)"
echo "asked of the model, checks included: $(asked)"
