"""MMLU: 14,042 four-option questions over 57 subjects, from school to professional exams.

Hendrycks et al., "Measuring Massive Multitask Language Understanding", arXiv:2009.03300. Licence: MIT.
The hub's rows have a list of options and the answer as a number from 0; the authors' CSV files have no header and a
letter. Categories are the paper's four.
"""

from string import ascii_uppercase

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import choice_list, lettered_columns, sample_id, text
from evalmesh.benchmarks.shapes.loglikelihood import LETTERS, ways
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample

_SUBJECTS = {
    "STEM": (
        "abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics "
        "college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics "
        "high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics "
        "high_school_physics high_school_statistics machine_learning"
    ),
    "Humanities": (
        "formal_logic high_school_european_history high_school_us_history high_school_world_history international_law "
        "jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law "
        "world_religions"
    ),
    "Social Sciences": (
        "econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics "
        "high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations "
        "security_studies sociology us_foreign_policy"
    ),
    "Other": (
        "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
        "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"
    ),
}
CATEGORIES = {subject: category for category, subjects in _SUBJECTS.items() for subject in subjects.split()}


def to_sample(row: Row, context: RowContext) -> Sample:
    """Takes both layouts."""
    if "choices" not in row:
        return lettered_columns(row, context)
    choices = choice_list(row, "choices")
    answer = text(row, "answer")
    letter = ascii_uppercase[int(answer)] if answer.isdecimal() and int(answer) < len(choices) else answer.upper()
    if letter not in ascii_uppercase[: len(choices)]:
        raise ValueError(f"column 'answer' is '{answer}', expected a number from 0 to {len(choices) - 1} or a letter")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "question"),
        target=(letter,),
        choices=choices,
    )


BENCHMARK = Benchmark(
    name="mmlu",
    version=3,
    title="MMLU",
    description="Multiple-choice knowledge questions over 57 subjects in four categories.",
    dataset=DatasetInfo(
        huggingface="cais/mmlu",
        modelscope="cais/mmlu",
        revision="c30699e8356da336a370243923dbaf21066bb9fe",
        files="{subset}/{split}-00000-of-00001.parquet",
        license="MIT",
        columns=("question", "A", "B", "C", "D", "answer"),
    ),
    shape=MultipleChoice(),
    modes=ways(LETTERS, "The following are multiple choice questions (with answers) about {subset}."),
    to_sample=to_sample,
    subsets=tuple(sorted(CATEGORIES)),
    few_shot_split="dev",
    few_shot_num=5,
    few_shot_max=5,
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    categories=CATEGORIES,
    tags=("knowledge", "multiple-choice"),
)
