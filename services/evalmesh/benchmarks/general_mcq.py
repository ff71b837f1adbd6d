"""Your own multiple-choice questions, from a CSV, TSV, JSONL, JSON or Parquet file or a folder of them.

Columns: question, the options (A, B, C, ..., as many as there are, or a list in choices), answer (a letter, or the text
of an option) and, if you like, id. What else these may be called: `COLUMNS`.
A folder holds `{subset}_val.csv` to evaluate and, for solved examples, `{subset}_dev.csv`; `.jsonl` works the same.
"""

import json
import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.columns import ANSWER, CHOICES, QUESTION, Column
from evalmesh.benchmarks.rows import choice_columns, choice_list, optional_text, sample_id, text
from evalmesh.benchmarks.shapes.loglikelihood import MODES
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.sample import Sample

_OPTIONS = tuple(
    Column(letter, (f"option {letter}", f"choice {letter}", f"opt {letter}", f"选项{letter}"))
    for letter in ascii_uppercase
)
COLUMNS = (QUESTION, ANSWER, CHOICES, *_OPTIONS)
_DRESSED = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_LETTERED = re.compile(r"[(\[]?[A-Za-z][)\].:]\s*")


def to_sample(row: Row, context: RowContext) -> Sample:
    """A question with its options and the letter of the right one."""
    question = text(row, "question")
    choices = _choices(row)
    row_id = optional_text(row, "id")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=question,
        target=(_letter(text(row, "answer"), choices),),
        choices=choices,
        metadata={"id": row_id} if row_id else {},
    )


def _choices(row: Row) -> tuple[str, ...]:
    given = _unpacked(row.get("choices"))
    if given in (None, ""):
        return choice_columns(row)
    if isinstance(given, Mapping):
        given = given["text"] if "text" in given else [given[key] for key in sorted(given)]
    found = choice_list({"choices": given}, "choices")
    # "A. Paris", "B. Rome", ...: the prompt brings letters of its own.
    marked = [_LETTERED.match(option) for option in found]
    if all(mark and letter in mark[0].upper() for mark, letter in zip(marked, ascii_uppercase, strict=False)):
        return tuple(option[mark.end() :] for option, mark in zip(found, marked, strict=True) if mark)
    return found


def _unpacked(value: Any) -> Any:
    """A list that a CSV file holds as JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"column 'choices' is no JSON list: {error}") from error


def _letter(answer: str, choices: tuple[str, ...]) -> str:
    """A letter as it stands or in brackets, else the option with this very text."""
    letters = ascii_uppercase[: len(choices)]
    dressed = _DRESSED.fullmatch(answer)
    if dressed and dressed[1].upper() in letters:
        return dressed[1].upper()
    same = [letter for letter, option in zip(letters, choices, strict=True) if option.casefold() == answer.casefold()]
    if len(same) == 1:
        return same[0]
    also = "; a number may count from 0 or from 1" if answer.isdecimal() else ""
    wanted = f"one letter of {', '.join(letters)} or the text of an option"
    raise ValueError(f"column 'answer' is '{answer[:80]}', expected {wanted}{also}")


BENCHMARK = Benchmark(
    name="general_mcq",
    version=4,
    title="General multiple choice",
    description="Multiple-choice questions of your own: rows with question, A, B, ... (or choices) and answer.",
    dataset=DatasetInfo(license="yours"),
    shape=MultipleChoice(),
    modes=MODES,
    to_sample=to_sample,
    columns=COLUMNS,
    split="val",
    few_shot_split="dev",
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("custom", "multiple-choice"),
    needs_local_path=True,
)
