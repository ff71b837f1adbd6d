"""Starter questions: general knowledge with four options, written for evalmesh and shipped with it.

Small and easy on purpose: it shows in seconds that a model, its endpoint and the platform work together. Its scores
say little about how good a model is. Licence: Apache-2.0, as evalmesh.
"""

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import answer_letter, choice_list, sample_id, text
from evalmesh.benchmarks.shapes.loglikelihood import MODES
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns question, choices, answer, subject."""
    choices = choice_list(row, "choices")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "question"),
        target=(answer_letter(row, "answer", len(choices)),),
        choices=choices,
    )


BENCHMARK = Benchmark(
    name="starter_mcq",
    version=3,
    title="Starter questions",
    description="Multiple-choice general knowledge that ships with evalmesh; for a first run, not for ranking models.",
    dataset=DatasetInfo(license="Apache-2.0", packaged="starter_mcq.jsonl", subset_column="subject"),
    shape=MultipleChoice(),
    modes=MODES,
    to_sample=to_sample,
    subsets=("science", "geography", "history", "language", "computing", "arts"),
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("starter", "knowledge", "multiple-choice"),
)
