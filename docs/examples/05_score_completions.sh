#!/usr/bin/env bash
# Scores answers that exist already, with the scorer and the report of a run. No model is asked.
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")/../../.venv/bin" 2>/dev/null && pwd)  # of a checkout, where no other is active
cd "$(mktemp -d)"

evalmesh benchmarks preview starter_math

cat >completions.jsonl <<'ROWS'
{"id": "default/0", "text": "16 leave: 25. 8 come: 33. 13 leave: 20. 21 come: 41. The answer is 41."}
{"index": 1, "text": "It must be \\boxed{1000000}."}
{"index": 2, "text": "I would rather not say."}
ROWS

evalmesh score --dataset starter_math --completions completions.jsonl --model somebody --limit 3

# Two samples have no row: they are counted and named, and the exit code says so.
code=0
evalmesh score --dataset starter_math --completions completions.jsonl --model somebody --limit 5 || code=$?
echo "exit code: $code"
[[ "$code" == 3 ]]
