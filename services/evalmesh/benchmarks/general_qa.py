"""Your own questions with free answers, from a CSV, TSV, JSONL, JSON or Parquet file or a folder of them.

Columns: query (or instruction and input), response (a text, or a list of accepted ones; rows without one are asked and
not scored) and, if you like, system, history (earlier turns) and id; or messages (OpenAI's form), whose last user turn
is the question and whose last answer, where it ends with one, the reference; or turns: questions that are asked one
after the other, each once the model has answered; response is of the last. What else these may be called: `COLUMNS`.
A folder holds `{subset}.jsonl`, or `{subset}_test.jsonl` with `{subset}_dev.jsonl` for solved examples.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evalmesh.benchmarks.base import Benchmark, DatasetInfo, Row, RowContext
from evalmesh.benchmarks.columns import ANSWER, Column
from evalmesh.benchmarks.rows import optional_text, sample_id, text
from evalmesh.benchmarks.shapes.free_text import FreeText
from evalmesh.benchmarks.shapes.overlap import Overlap
from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.sample import Sample
from evalmesh.scoring.text_overlap import CorpusBleu

COLUMNS = (
    Column("query", ("question", "prompt", "problem", "题目", "问题")),
    Column("instruction"),
    Column("input"),
    Column("response", ("answer", "answers", "references", "output", *(n for n in ANSWER.also if n != "response"))),
    Column("system", ("system_prompt",)),
    Column("history"),
    Column("messages", ("conversation", "conversations", "chat")),
    Column("turns"),
)
_ROLES = ("system", "user", "assistant")


def to_sample(row: Row, context: RowContext) -> Sample:
    """A question, what was said before it, and the accepted answers."""
    query, *followups = _turns_asked(row) or [_query(row)]
    said = _messages(row, "history" if query else "messages")
    responses = _responses(row.get("response"))
    if not query:
        if not said and "messages" not in row:
            text(row, "query")  # raises: it is missing or empty
        if not said:
            raise ValueError("column 'messages' is empty")
        if said[-1].role == "assistant":
            responses = responses or (said.pop().text,)
        if not said or said[-1].role != "user":
            raise ValueError("column 'messages' must end with what the user asks, or with the reference answer to it")
        query = said.pop().text
    system = optional_text(row, "system")
    if system and said and said[0].role == "system":
        raise ValueError("column 'system' and a system message of the conversation are both there; keep one")
    row_id = optional_text(row, "id")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=query,
        target=responses,
        messages=(*([Message("system", system)] if system else []), *said),
        followups=tuple(followups),
        metadata={"id": row_id} if row_id else {},
    )


def _responses(value: Any) -> tuple[str, ...]:
    value = _unpacked(value, "response") if isinstance(value, str) and value.lstrip().startswith('["') else value
    given = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(found for one in given if (found := optional_text({"response": one}, "response")))


def _turns_asked(row: Row) -> list[str]:
    """What is asked one after the other, each once the model has answered."""
    given = _unpacked(row.get("turns"), "turns")
    if given is None or given == "":
        return []
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(one, str) for one in given):
        raise TypeError(f"column 'turns' holds a {type(given).__name__}, expected a list of texts")
    if not (asked := [one.strip() for one in given]) or not all(asked):
        raise ValueError("column 'turns' is empty, or one of its texts is")
    return asked


def _query(row: Row) -> str:
    """The question; an instruction (as in Alpaca's rows) comes with what it is about."""
    parts = [optional_text(row, name) for name in ("instruction", "input")]
    return optional_text(row, "query") or "\n\n".join(filter(None, parts))


def _messages(row: Row, name: str) -> list[Message]:
    value = _unpacked(row.get(name), name)
    if value is None or value == "":
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"column '{name}' holds a {type(value).__name__}, expected a list of turns")
    return [message for turn in value for message in _turn(turn, name)]


def _turn(turn: Any, name: str) -> list[Message]:
    """A message in OpenAI's form or ShareGPT's, or a pair of question and answer."""
    if isinstance(turn, Mapping):
        role = str(turn.get("role", turn.get("from", "")))
        role = {"human": "user", "gpt": "assistant", "bot": "assistant"}.get(role, role)
        content = turn.get("content", turn.get("value"))
        if role in _ROLES and isinstance(content, str):
            return [Message(role, content)]  # type: ignore[arg-type]  # it was just looked at
    elif isinstance(turn, Sequence) and len(turn) == 2 and all(isinstance(one, str) for one in turn):
        return [Message("user", turn[0]), Message("assistant", turn[1])]
    raise ValueError(f"column '{name}' holds a turn that is no message (role, content) and no pair of texts")


def _unpacked(value: Any, name: str) -> Any:
    """A list that a CSV file holds as JSON."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"column '{name}' is no JSON list: {error}") from error


BENCHMARK = Benchmark(
    name="general_qa",
    version=1,
    title="General questions",
    description="Questions of your own with free answers: rows with query and response, or messages.",
    dataset=DatasetInfo(license="yours"),
    shape=FreeText(),
    modes={"overlap": Overlap()},
    to_sample=to_sample,
    columns=COLUMNS,
    few_shot_split="dev",
    generation=GenerationConfig(max_tokens=4096, temperature=0.0),
    tags=("custom", "free-text"),
    needs_local_path=True,
    reducers=(CorpusBleu(),),
)
