"""DROP: questions on paragraphs that take adding, counting, sorting or comparing; answers are numbers, dates, spans.

Dua et al., "DROP: A Reading Comprehension Benchmark Requiring Discrete Reasoning Over Paragraphs", arXiv:1903.00161.
Licence: CC BY-SA 4.0. Rows come as the authors' (answer and validated_answers), as ucinlp/drop's (answers_spans) or
with the paragraph and the question in one text (context, ref_text). Questions on one paragraph are one group.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.rows import optional_text, sample_id, text
from evalmesh.benchmarks.shapes.short_answer import ShortAnswer
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample


def to_sample(row: Row, context: RowContext) -> Sample:
    """The paragraph with the question, and every accepted answer once."""
    if "context" in row:
        passage, _, question = text(row, "context").removesuffix("Answer:").rpartition("\nQuestion:")
        passage = passage.removeprefix("Passage:").strip()
    else:
        passage, question = text(row, "passage"), text(row, "question")
    answers = list(dict.fromkeys(spans for spans in _accepted(row) if any(spans)))
    if not answers or not passage or not question.strip():
        raise ValueError("the row has no paragraph, no question or no answer")
    row_id = optional_text(row, "query_id")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=f"Passage: {passage}\n\nQuestion: {question.strip()}",
        target=tuple("; ".join(spans) for spans in answers),
        metadata={"id": row_id} if row_id else {},
        reference=[list(spans) for spans in answers],
        group=optional_text(row, "section_id") or optional_text(row, "passage_id"),
    )


def _accepted(row: Row) -> Iterator[tuple[str, ...]]:
    if "ref_text" in row:
        yield from ((one.strip(),) for one in text(row, "ref_text").split("|"))
        return
    if isinstance(spans := row.get("answers_spans"), Mapping):
        yield tuple(map(str, spans.get("spans") or ()))
        return
    first, others = row.get("answer"), row.get("validated_answers")
    if not isinstance(first, Mapping):
        raise TypeError("column 'answer' must hold an object with number, date and spans")
    yield _one(first)
    if isinstance(others, Mapping):  # a list of each part, as Parquet has it
        parts = (others.get(name) or () for name in ("number", "date", "spans"))
        others = [dict(zip(("number", "date", "spans"), one, strict=True)) for one in zip(*parts, strict=True)]
    yield from (_one(other) for other in others or ())


def _one(answer: Mapping[str, Any]) -> tuple[str, ...]:
    if number := optional_text(answer, "number"):
        return (number,)
    if spans := answer.get("spans"):
        return tuple(map(str, spans))
    date = answer.get("date") or {}
    return (" ".join(str(date.get(part) or "") for part in ("day", "month", "year")).strip(),)


BENCHMARK = Benchmark(
    name="drop",
    version=1,
    title="DROP",
    description="Questions on paragraphs that take arithmetic, counting or comparing; short answers.",
    dataset=DatasetInfo(huggingface="EleutherAI/drop", modelscope="AI-ModelScope/DROP", license="CC BY-SA 4.0"),
    shape=ShortAnswer(),
    to_sample=to_sample,
    split="validation",
    few_shot_split="train",
    few_shot_num=3,
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("reading", "reasoning"),
)
