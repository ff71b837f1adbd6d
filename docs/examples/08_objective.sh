#!/usr/bin/env bash
# Arrivals at a fixed rate against an objective (goodput, verdict, exit code), and a search for the most load that meets
# it. The simulated model works on four requests at a time and takes 125 ms for each: 32 per second are its end.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
cd "$(mktemp -d)"

evalmesh simulate --port 0 --ttft 50ms --itl 5ms --max-concurrency 4 >simulator.log &
trap 'kill $!' EXIT
until grep -qs http simulator.log; do kill -0 $!; sleep 0.05; done
url=$(grep -o 'http://[^ ]*' simulator.log)/chat/completions
ask="--url $url --model simulated --dataset random --max-prompt-length 64 --max-tokens 16 --seed 1"

# From the schedule: what users wait. From the send: what the server does with a request once it has it.
evalmesh perf $ask --rate 8 24 --duration 4 --sleep-interval 0 --slo ttft:p90:500ms

# In a pipeline the exit code says whether the objective was met: 7, it was not. 6: this machine was too busy to tell.
code=0
evalmesh perf $ask --rate 80 --duration 3 --slo ttft:p90:200ms --strict --outputs-dir pipeline || code=$?
echo "exit code: $code"
[[ "$code" == 7 || "$code" == 6 ]]

evalmesh perf $ask --find-max parallel --sla-upper-bound 8 --duration 2 --slo e2e:p75:200ms
