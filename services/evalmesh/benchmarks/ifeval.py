"""IFEval: 541 prompts with 834 instructions of 25 kinds that a program can check ("no commas", "at least 300 words").

Zhou et al., "Instruction-Following Evaluation for Large Language Models", arXiv:2311.07911. Licence: Apache-2.0.
Whether all instructions of a prompt are followed (prompt level) and how many (instruction level), both for the response
as it is (strict) and without what often stands around an answer (loose).
"""

from collections.abc import Mapping
from typing import Any

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.naming import suggestion
from evalmesh.benchmarks.rows import optional_text, sample_id, text
from evalmesh.benchmarks.shapes.instructions import Instructions
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample
from evalmesh.scoring.instructions.checks import CHECKS


def to_sample(row: Row, context: RowContext) -> Sample:
    """Columns prompt, instruction_id_list, kwargs (one for each of them; null is as good as absent) and key."""
    names, given = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list | tuple) or not names:
        raise ValueError("column 'instruction_id_list' must hold a list of instructions")
    if not isinstance(given, list | tuple) or len(given) != len(names):
        raise ValueError(f"column 'kwargs' must hold a list of {len(names)} objects, one for each instruction")
    key = optional_text(row, "key")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=text(row, "prompt"),
        target=(),
        metadata={"id": key} if key else {},
        reference=[_instruction(str(name), args) for name, args in zip(names, given, strict=True)],
    )


def _instruction(name: str, given: Any) -> dict[str, Any]:
    if name not in CHECKS:
        raise ValueError(f"column 'instruction_id_list' names '{name}'. {suggestion(name, CHECKS)}")
    if not isinstance(given, Mapping):
        raise TypeError(f"column 'kwargs' holds a {type(given).__name__} for {name}, expected an object")
    needed = CHECKS[name][1]
    if missing := [one for one in needed if given.get(one) is None]:
        raise ValueError(f"column 'kwargs' has no {missing[0]}, which {name} needs")
    return {"id": name, "args": {one: given[one] for one in needed}}


BENCHMARK = Benchmark(
    name="ifeval",
    version=1,
    title="IFEval",
    description="Instructions that a program can check: strict and loose, by prompt and by instruction.",
    dataset=DatasetInfo(huggingface="google/IFEval", modelscope="opencompass/ifeval", license="Apache-2.0"),
    shape=Instructions(),
    to_sample=to_sample,
    split="train",
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("instruction-following",),
)
