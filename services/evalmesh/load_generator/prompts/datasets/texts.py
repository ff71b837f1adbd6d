"""Files with one text, chat or body per row."""

from collections.abc import Iterator, Mapping
from typing import Any

from evalmesh.benchmarks.columns import folded
from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.apis import registry
from evalmesh.load_generator.prompts import rows
from evalmesh.load_generator.prompts.base import Context, Dataset, LoadPrompt, Row, Skipped
from evalmesh.wire.json_items import decoded
from evalmesh.wire.row_files import Bad

_PROMPT_COLUMNS = ("prompt", "question", "query", "instruction", "input", "text", "content", "题目", "问题")
_LIMIT_KEYS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def chat_of(value: Any) -> tuple[Mapping[str, object], ...]:
    """Messages in OpenAI's form; empty for whatever is none."""
    if not isinstance(value, list) or not value:
        return ()
    sound = all(isinstance(item, dict) and isinstance(item.get("role"), str) and "content" in item for item in value)
    return tuple(value) if sound else ()


def _column(context: Context, usual: tuple[str, ...]) -> tuple[str, ...]:
    """The columns to look for a prompt in: `args.column`, else the usual ones."""
    name = context.spec.args.get("column")
    if name is None:
        return usual
    if not isinstance(name, str) or not name:
        raise InvalidInput(
            f"prompts.args.column is {name!r}; give the name of the column with the prompts.",
            {"field": "prompts.args.column"},
        )
    return (name,)


def _by_column(*usual: str) -> Any:
    """Rows that are objects with a prompt under one of the usual names, or plain texts."""

    def read(context: Context) -> Iterator[Row]:
        columns = _column(context, usual)
        for where, value in rows.of_context(context):
            if isinstance(value, Bad):
                yield value
            elif isinstance(value, str):
                yield LoadPrompt(text=value)
            elif isinstance(value, dict):
                yield _from_object(where, value, columns)
            elif chat := chat_of(value):
                yield LoadPrompt(messages=chat)
            else:
                yield Bad(where, f"neither a text nor an object with {' or '.join(columns)}")

    return read


def _from_object(where: str, value: dict[str, Any], columns: tuple[str, ...]) -> Row:
    for column in columns:
        text = value.get(column)
        if isinstance(text, str):
            return LoadPrompt(text=text) if text.strip() else Skipped(f"with an empty {column}")
        if chat := chat_of(text):
            return LoadPrompt(messages=chat)
    if chat := chat_of(value.get("messages")):
        return LoadPrompt(messages=chat)
    by_fold = {folded(str(name)): name for name in value}
    renamed = [by_fold[name] for column in columns if (name := folded(column)) in by_fold and by_fold[name] != column]
    if renamed:
        return _from_object(where, {columns[0]: value[renamed[0]]}, columns[:1])
    return Bad(where, f"it has no {' or '.join(columns)}, only {', '.join(map(str, list(value)[:8])) or 'nothing'}")


def _line_by_line(context: Context) -> Iterator[Row]:
    """A line is a JSON list of messages, a JSON object (a whole body), or else a text, whatever it looks like."""
    turns_key = registry.get(context.target.api).turns_key
    for where, line in rows.text_lines(context.file()):
        value: Any = line
        if isinstance(line, str) and line[0] in "[{":
            try:
                value = decoded(line)
            except ValueError:
                value = line
        if isinstance(value, Bad):
            yield value
        elif isinstance(value, dict):
            if turns_key and turns_key not in value:
                yield Bad(where, f"a body without '{turns_key}', which {context.target.api} needs")
            else:
                yield _body(value)
        elif chat := chat_of(value):
            yield LoadPrompt(messages=chat)
        else:
            yield LoadPrompt(text=str(line))


def _body(value: dict[str, Any]) -> LoadPrompt:
    limit = next((value[key] for key in _LIMIT_KEYS if isinstance(value.get(key), int)), 0)
    return LoadPrompt(body=value, messages=chat_of(value.get("messages")), max_tokens=limit)


def _embedding(context: Context) -> Iterator[Row]:
    """One text per line, `prompts.documents` of them per request."""
    size = max(1, context.spec.documents)
    batch: list[str] = []
    for row in _by_column("text", "input", *_PROMPT_COLUMNS)(context):
        if not isinstance(row, LoadPrompt):
            yield row
            continue
        batch.append(row.text)
        if len(batch) == size:
            yield _texts_to_embed(batch, context)
            batch = []
    if batch:
        yield Skipped("too few at the end of the file for one more request")


def _texts_to_embed(texts: list[str], context: Context) -> LoadPrompt:
    if len(texts) == 1:
        return LoadPrompt(text=texts[0])
    return LoadPrompt(texts=tuple(texts), tokens=sum(map(context.writer.count, texts)))


def _rerank(context: Context) -> Iterator[Row]:
    for where, value in rows.of_context(context):
        if isinstance(value, Bad):
            yield value
            continue
        query = value.get("query") if isinstance(value, dict) else None
        documents = value.get("documents") if isinstance(value, dict) else None
        texts = [_document(item) for item in documents] if isinstance(documents, list) else []
        if not isinstance(query, str) or not texts or None in texts:
            yield Bad(where, "no object with a query and a list of documents")
            continue
        kept = tuple(str(text) for text in texts)[: context.spec.documents or None]
        yield LoadPrompt(query=query, texts=kept)


def _document(item: Any) -> str | None:
    if isinstance(item, dict):
        item = item.get("text")
    return item if isinstance(item, str) else None


DATASETS = (
    Dataset("openqa", "A file of rows with a column `question`: JSON lines, CSV, ...", rows=_by_column("question")),
    Dataset("longalpaca", "A file of rows with a column `instruction`; long texts.", rows=_by_column("instruction")),
    Dataset("line_by_line", "A file with a text, a list of messages, or a whole body a line.", rows=_line_by_line),
    Dataset(
        "custom",
        "A file of rows with a column of prompts or chats (`column`), in JSON, CSV, TSV or Parquet, or lines of text.",
        rows=_by_column(*_PROMPT_COLUMNS),
    ),
    Dataset(
        "embedding", "A file with a text to embed a row (`text`, `input`, ...).", rows=_embedding, apis=("embeddings",)
    ),
    Dataset(
        "rerank", "A file of JSON lines with a `query` and a list of `documents` each.", rows=_rerank, apis=("rerank",)
    ),
)
