"""GSM8K: 1,319 grade-school word problems with a whole number as answer.

Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168. Licence: MIT.
A row's answer column ends in `#### N`; what stands before it is the worked solution, with calculator notes in `<<>>`.
"""

import re

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import sample_id, text
from evalmesh.benchmarks.shapes.final_answer import FinalAnswer
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample


def to_sample(row: Row, context: RowContext) -> Sample:
    """Splits the answer column at its last `####`."""
    solution, mark, answer = text(row, "answer").rpartition("####")
    target = answer.strip().replace(",", "")
    if not mark or not target:
        raise ValueError("column 'answer' has no '#### N' at its end")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "question"),
        target=(target,),
        metadata={"solution": re.sub(r"<<[^<>]*>>", "", solution).strip()},
    )


BENCHMARK = Benchmark(
    name="gsm8k",
    version=2,
    title="GSM8K",
    description="Grade-school maths word problems; the final number counts.",
    dataset=DatasetInfo(
        huggingface="openai/gsm8k",
        modelscope="AI-ModelScope/gsm8k",
        revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
        files="{subset}/{split}-00000-of-00001.parquet",
        license="MIT",
    ),
    shape=FinalAnswer(),
    to_sample=to_sample,
    subsets=("main",),
    few_shot_split="train",
    few_shot_num=4,
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("math", "reasoning"),
)
