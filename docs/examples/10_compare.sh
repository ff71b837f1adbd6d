#!/usr/bin/env bash
# Compares two runs sample by sample, and lets a pipeline decide by the result. Yours: two outputs folders.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
cd "$(mktemp -d)"

evalmesh simulate --port 0 --benchmarks starter_math --skill 0.5 >before.log &
before=$!
evalmesh simulate --port 0 --benchmarks starter_math --skill 0.8 --seed 1 >after.log &
after=$!
trap 'kill $before $after' EXIT
until grep -qs http before.log && grep -qs http after.log; do kill -0 $before $after; sleep 0.05; done

for name in before after; do
  evalmesh eval --model "$name" --api-url "$(grep -o 'http://[^ ]*' $name.log)" --datasets starter_math \
    --work-dir "$name" --no-timestamp --name "$name"
done

# The first run is the baseline. What flipped is shown with both answers.
evalmesh compare before after --flips 5

# A gate: exit code 7 when it is missed, 8 when so few samples leave it undecided.
code=0
evalmesh compare before after --gate better --gate 'starter_math>=0.2' --output comparison.html || code=$?
echo "exit code: $code"

# For documents: the runs side by side.
evalmesh report before after --format markdown
