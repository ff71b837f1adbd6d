"""What scoring a final answer costs, as a ratio to finding the last integer of the text and comparing it.

Run: EVALMESH_SHARED_DATA=... python tests/bench/bench_scoring.py
The rows are the GSM8K outputs with known scores; the fast path alone is measured, in CPU time, best of five.
"""

import gzip
import json
import os
import re
import time
from pathlib import Path

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.final_answer import score_final_answer

_INTEGER = re.compile(r"-?\d+")


def pairs():
    folder = Path(os.environ["EVALMESH_SHARED_DATA"]) / "gsm8k"
    for path in sorted(folder.glob("ref_*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for row in map(json.loads, lines):
                sample = Sample(id="s/0", index=0, subset="s", input="", target=(row["gt"],))
                yield sample, Completion(sample_id="s/0", repeat=0, digest="", text=row["code"][-1])


def last_integer_is_right(sample, completion):
    return _INTEGER.findall(completion.text)[-1:] == list(sample.target)


def best_s(function, rows):
    times = []
    for _ in range(5):
        start = time.process_time()
        for row in rows:
            function(*row)
        times.append(time.process_time() - start)
    return min(times)


def main():
    rows = list(pairs())
    floor, ours = best_s(last_integer_is_right, rows), best_s(score_final_answer, rows)
    undecided = sum(score_final_answer(*row) is None for row in rows)
    print(f"{len(rows)} rows, {1e6 * ours / len(rows):.1f} us each: {ours / floor:.1f} x the last integer's.")
    print(f"{undecided} rows need algebra.")


if __name__ == "__main__":
    main()
