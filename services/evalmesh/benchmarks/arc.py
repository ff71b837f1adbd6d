"""ARC: school science questions that word overlap and retrieval do not solve (Challenge), and easier ones (Easy).

Clark et al., "Think you have Solved Question Answering? Try ARC, the AI2 Reasoning Challenge", arXiv:1803.05457.
Licence: CC BY-SA 4.0. Some rows label their options 1 to 4, a few have three or five options; all become A, B, C, ...
"""

from collections.abc import Mapping
from string import ascii_uppercase

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import choice_list, optional_text, sample_id, text
from evalmesh.benchmarks.shapes.loglikelihood import MODES
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample


def to_sample(row: Row, context: RowContext) -> Sample:
    """Finds the key among the row's own labels; its place gives the letter."""
    options = row.get("choices")
    if not isinstance(options, Mapping):
        raise TypeError("column 'choices' must hold an object with 'text' and 'label'")
    choices, labels = choice_list(options, "text"), choice_list(options, "label")
    key = text(row, "answerKey")
    if len(labels) != len(choices) or key not in labels:
        raise ValueError(f"column 'answerKey' is '{key}', the {len(choices)} options are labelled {', '.join(labels)}")
    row_id = optional_text(row, "id")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "question"),
        target=(ascii_uppercase[labels.index(key)],),
        choices=choices,
        metadata={"id": row_id} if row_id else {},
    )


BENCHMARK = Benchmark(
    name="arc",
    version=3,
    title="ARC",
    description="Multiple-choice science questions from school exams, an easy and a hard set.",
    dataset=DatasetInfo(
        huggingface="allenai/ai2_arc",
        modelscope="allenai/ai2_arc",
        revision="210d026faf9955653af8916fad021475a3f00453",
        files="{subset}/{split}-00000-of-00001.parquet",
        license="CC BY-SA 4.0",
    ),
    shape=MultipleChoice(),
    modes=MODES,
    to_sample=to_sample,
    subsets=("ARC-Easy", "ARC-Challenge"),
    few_shot_split="train",
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("knowledge", "science", "multiple-choice"),
)
