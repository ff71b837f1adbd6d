"""WinoGrande: which of two names or things a blank in a sentence stands for; word statistics do not tell.

Sakaguchi et al., "WinoGrande: An Adversarial Winograd Schema Challenge at Scale", arXiv:1907.10641. Licence: CC BY.
By log-likelihood each option is put into the blank, and the end of the sentence is judged after it.
"""

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import sample_id, text
from evalmesh.benchmarks.shapes.loglikelihood import BLANK, LogLikelihoodBlank
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample

_TEMPLATE = (
    "Which option does the blank (_) in the sentence stand for? The last line of your reply must be 'ANSWER: X', "
    "where X is one of {letters}.\n\n{question}\n\n{choices}"
)


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns sentence, option1, option2, answer (1 or 2)."""
    sentence, answer = text(row, "sentence"), text(row, "answer")
    if BLANK not in sentence:
        raise ValueError(f"column 'sentence' has no blank ({BLANK})")
    if answer not in {"1", "2"}:
        raise ValueError(f"column 'answer' is '{answer}', expected 1 or 2")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=sentence,
        target=("AB"[int(answer) - 1],),
        choices=(text(row, "option1"), text(row, "option2")),
    )


BENCHMARK = Benchmark(
    name="winogrande",
    version=1,
    title="WinoGrande",
    description="Which of two options a blank in a sentence stands for.",
    dataset=DatasetInfo(huggingface="allenai/winogrande", modelscope="AI-ModelScope/winogrande_val", license="CC BY"),
    shape=MultipleChoice(),
    modes={"loglikelihood": LogLikelihoodBlank()},
    to_sample=to_sample,
    subsets=("winogrande_xl",),
    split="validation",
    few_shot_split="train",
    template=_TEMPLATE,
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("commonsense", "multiple-choice"),
)
