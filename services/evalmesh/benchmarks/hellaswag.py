"""HellaSwag: which of four endings a description of something everyday goes on with; the wrong ones fooled models.

Zellers et al., "HellaSwag: Can a Machine Really Finish Your Sentence?", arXiv:1905.07830. Licence: MIT.
The published rows have the text in two parts, an activity and marks in brackets; a row with only `ctx` has them joined
already. Endings keep the blanks that are left of their marks, as lm-evaluation-harness has it.
"""

import re
from string import ascii_uppercase

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import optional_text, sample_id, text
from evalmesh.benchmarks.shapes.loglikelihood import ways
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample

_MARK = re.compile(r"\[.*?\]")
_TEMPLATE = (
    "Which ending does the text below most plausibly go on with? The last line of your reply must be 'ANSWER: X', "
    "where X is one of {letters}.\n\n{question} ...\n\n{choices}"
)


def _unmarked(part: str) -> str:
    return _MARK.sub("", part.strip().replace(" [title]", ". ")).replace("  ", " ")


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns ctx_a, ctx_b, activity_label (or ctx), endings, label."""
    if "ctx_a" in row:
        said = f"{text(row, 'ctx_a')} {optional_text(row, 'ctx_b').capitalize()}"
        begin = _unmarked(f"{text(row, 'activity_label')}: {said}")
    else:
        begin = _unmarked(text(row, "ctx"))
    endings = row.get("endings")
    if not isinstance(endings, list | tuple) or not 2 <= len(endings) <= len(ascii_uppercase):
        raise ValueError("column 'endings' must hold a list of 2 to 26 endings")
    label = text(row, "label")
    if not label.isdecimal() or int(label) >= len(endings):
        raise ValueError(f"column 'label' is '{label}', expected a number from 0 to {len(endings) - 1}")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=begin,
        target=(ascii_uppercase[int(label)],),
        choices=tuple(_unmarked(str(ending)) for ending in endings),
        metadata={"activity": activity} if (activity := optional_text(row, "activity_label")) else {},
    )


BENCHMARK = Benchmark(
    name="hellaswag",
    version=1,
    title="HellaSwag",
    description="Endings of everyday descriptions: one of four is the real one.",
    dataset=DatasetInfo(huggingface="Rowan/hellaswag", modelscope="modelscope/hellaswag", license="MIT"),
    shape=MultipleChoice(),
    modes=ways("{question}", neutral=""),
    to_sample=to_sample,
    split="validation",
    few_shot_split="train",
    template=_TEMPLATE,
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("commonsense", "multiple-choice"),
)
