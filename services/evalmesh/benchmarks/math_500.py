r"""MATH-500: 500 competition problems in five levels, of the MATH test set; the answer is an expression in LaTeX.

Lightman et al., "Let's Verify Step by Step", arXiv:2305.20050; Hendrycks et al., "Measuring Mathematical Problem
Solving With the MATH Dataset", arXiv:2103.03874. Licence: MIT. An answer is right if it is equal to the accepted one as
text, as a number or as an expression (`scoring.math_equal`).
"""

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import optional_text, sample_id, text
from evalmesh.benchmarks.shapes.final_answer import FinalAnswer
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns problem, answer and, if they are there, solution, subject, level, unique_id."""
    kept = {"id": "unique_id", "subject": "subject", "level": "level", "solution": "solution"}
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "problem"),
        target=(text(row, "answer"),),
        metadata={name: found for name, column in kept.items() if (found := optional_text(row, column))},
    )


BENCHMARK = Benchmark(
    name="math_500",
    version=1,
    title="MATH-500",
    description="Competition mathematics; the final expression counts, whatever its form.",
    dataset=DatasetInfo(huggingface="HuggingFaceH4/MATH-500", modelscope="AI-ModelScope/MATH-500", license="MIT"),
    shape=FinalAnswer(),
    to_sample=to_sample,
    generation=GenerationConfig(max_tokens=8192, temperature=0.0),
    tags=("math", "reasoning"),
)
