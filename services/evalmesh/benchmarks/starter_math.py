"""Starter maths: everyday word problems with one number as answer, written for evalmesh and shipped with it.

Small and easy on purpose: it shows in seconds that a model, its endpoint and the platform work together. Its scores
say little about how good a model is. Licence: Apache-2.0, as evalmesh.
"""

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import optional_text, sample_id, text
from evalmesh.benchmarks.shapes.final_answer import FinalAnswer
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns question, answer, solution, topic."""
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "question"),
        target=(text(row, "answer"),),
        metadata={"solution": optional_text(row, "solution"), "topic": optional_text(row, "topic")},
    )


BENCHMARK = Benchmark(
    name="starter_math",
    version=2,
    title="Starter maths",
    description="Short word problems that ship with evalmesh; for a first run, not for ranking models.",
    dataset=DatasetInfo(license="Apache-2.0", packaged="starter_math.jsonl"),
    shape=FinalAnswer(),
    to_sample=to_sample,
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("starter", "math"),
)
