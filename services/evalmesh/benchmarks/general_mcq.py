"""Your own multiple-choice questions, from a CSV or JSONL file or a folder of them.

Columns: question, A, B, C, ... (as many options as there are), answer (a letter) and, if you like, id.
A folder holds `{subset}_val.csv` to evaluate and, for solved examples, `{subset}_dev.csv`; `.jsonl` works the same.
"""

from evalmesh.benchmarks.base import Benchmark, DatasetInfo
from evalmesh.benchmarks.rows import lettered_columns
from evalmesh.benchmarks.shapes.loglikelihood import MODES
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig

BENCHMARK = Benchmark(
    name="general_mcq",
    version=2,
    title="General multiple choice",
    description="Multiple-choice questions of your own, read from local_path.",
    dataset=DatasetInfo(license="yours"),
    shape=MultipleChoice(),
    modes=MODES,
    to_sample=lettered_columns,
    split="val",
    few_shot_split="dev",
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("custom", "multiple-choice"),
    needs_local_path=True,
)
