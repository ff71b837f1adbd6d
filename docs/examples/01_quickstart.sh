#!/usr/bin/env bash
# Evaluates a simulated model at an OpenAI-compatible endpoint, and prints the report again as Markdown.
# Yours: leave out `simulate`, and put your endpoint's address into --api-url.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
cd "$(mktemp -d)"

evalmesh simulate --port 0 --benchmarks starter_math starter_mcq >simulator.log &
trap 'kill $!' EXIT
until grep -qs http simulator.log; do kill -0 $!; sleep 0.05; done
url=$(grep -o 'http://[^ ]*' simulator.log)

evalmesh eval --model simulated --api-url "$url" --datasets starter_math starter_mcq --limit 5
evalmesh report --format markdown
