#!/usr/bin/env bash
# Measures a simulated endpoint at two levels of load, then a slower one, and compares the two level by level.
# Yours: leave out `simulate`, and put your endpoint's address into --url.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
cd "$(mktemp -d)"

serve() { # NAME ARGUMENTS...: starts a simulated model; its address is in $url
    evalmesh simulate --port 0 "${@:2}" >"$1.log" &
    trap 'kill $(jobs -p)' EXIT
    until grep -qs http "$1.log"; do kill -0 $!; sleep 0.05; done
    url=$(grep -o 'http://[^ ]*' "$1.log")/chat/completions
}
load="--parallel 2 8 --number 60 240 --sleep-interval 0
      --dataset random --min-prompt-length 64 --max-prompt-length 64 --max-tokens 16"

serve fast --ttft 20ms --itl 2ms
evalmesh perf --url "$url" --model simulated $load --name fast --outputs-dir fast

serve slow --ttft 30ms --itl 2ms
evalmesh perf --url "$url" --model simulated $load --name slow --outputs-dir slow

evalmesh perf compare fast/*_* slow/*_*
