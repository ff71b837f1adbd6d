"""BoolQ: yes-or-no questions that people asked a search engine, each with a paragraph that answers it.

Clark et al., "BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions", arXiv:1905.10044.
Licence: CC BY-SA 3.0.
"""

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import sample_id, text
from evalmesh.benchmarks.shapes.yes_no import YesNo
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample
from evalmesh.scoring.yes_no import NO, YES, YesFigures

_ANSWERS = {True: YES, False: NO, "true": YES, "false": NO, "yes": YES, "no": NO, "1": YES, "0": NO}


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns question, passage, answer (true or false; label 1 or 0 in some copies)."""
    given = row.get("answer", row.get("label"))
    answer = _ANSWERS.get(given if isinstance(given, bool) else str(given).strip().lower())
    if answer is None:
        raise ValueError(f"column 'answer' is {given!r}, expected true or false")
    question = text(row, "question").removesuffix("?")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=f"{text(row, 'passage')}\n\nQuestion: {question}?",
        target=(answer,),
    )


BENCHMARK = Benchmark(
    name="boolq",
    version=1,
    title="BoolQ",
    description="Yes-or-no questions, each on a paragraph.",
    dataset=DatasetInfo(huggingface="google/boolq", license="CC BY-SA 3.0"),
    shape=YesNo(),
    to_sample=to_sample,
    split="validation",
    few_shot_split="train",
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("reading", "yes-no"),
    reducers=(YesFigures(),),
)
