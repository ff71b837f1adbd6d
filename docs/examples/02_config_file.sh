#!/usr/bin/env bash
# A run described by a file: looked at first (--dry-run asks nothing of the model), then run.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
config=$(cd "$(dirname "$0")" && pwd)/02_config_file.yaml
cd "$(mktemp -d)"

evalmesh simulate --port 0 --benchmarks starter_math starter_mcq >simulator.log &
trap 'kill $!' EXIT
until grep -qs http simulator.log; do kill -0 $!; sleep 0.05; done
url=$(grep -o 'http://[^ ]*' simulator.log)

evalmesh eval --config "$config" --api-url "$url" --dry-run
evalmesh eval --config "$config" --api-url "$url"
