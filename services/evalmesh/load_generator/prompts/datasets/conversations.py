"""Files with conversations. Recorded answers are left out: in a load test the model's own take their place."""

from collections.abc import Iterator
from typing import Any

from evalmesh.load_generator.prompts import rows
from evalmesh.load_generator.prompts.base import Context, Dataset, LoadPrompt, Row, Skipped
from evalmesh.wire.row_files import Bad

_HUMAN = frozenset({"human", "user"})
_SYSTEM = frozenset({"system", "developer"})


def _said(value: Any) -> list[tuple[str, str]] | None:
    """(who, what) of a conversation in any of the known forms; `None`: it is none."""
    if isinstance(value, dict):
        turns = value.get("turns")
        if isinstance(turns, list) and turns and all(isinstance(text, str) for text in turns):
            return [("user", text) for text in turns]
        value = next((value[key] for key in ("conversations", "conversation", "messages") if key in value), None)
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, dict) and "human" in item for item in value):  # pairs of question and answer
        return [("user", str(item["human"])) for item in value]
    found = []
    for item in value:
        if not isinstance(item, dict):
            return None
        who, text = item.get("from", item.get("role")), item.get("value", item.get("content"))
        text = _text_of(text)
        if not isinstance(who, str) or text is None:
            return None
        found.append((who, text))
    return found


def _text_of(content: Any) -> str | None:
    """The words of a message; `None` where it holds more than text, or none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def _first_turn(context: Context) -> Iterator[Row]:
    for row in _conversations(context):
        if not isinstance(row, LoadPrompt):
            yield row
        elif row.system:
            messages = ({"role": "system", "content": row.system}, {"role": "user", "content": row.turns[0]})
            yield LoadPrompt(messages=messages)
        else:
            yield LoadPrompt(text=row.turns[0])


def _all_turns(context: Context) -> Iterator[Row]:
    asked, writer = context.spec.turns, context.writer
    least, most = (asked.low, max(asked.low, asked.high)) if asked is not None else (1, 0)
    around = writer.around_later if writer.counts else 0
    for row in _conversations(context):
        if not isinstance(row, LoadPrompt):
            yield row
        elif len(row.turns) < least:
            yield Skipped(f"with fewer than {least} turns")
        else:
            turns = row.turns[: most or None]
            yield LoadPrompt(turns=turns, system=row.system, turn_tokens=_counted(row.system, turns, around, context))


def _counted(system: str, turns: tuple[str, ...], around: int, context: Context) -> tuple[int, ...]:
    """New tokens of each turn: the first with the system message, all with what stands around them."""
    if not context.writer.counts:
        return ()
    opening: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
    first = context.writer.count_messages((*opening, {"role": "user", "content": turns[0]}))
    empty = context.writer.least - 1
    return (first, *(max(1, context.writer.count(text) - empty + around) for text in turns[1:]))


def _conversations(context: Context) -> Iterator[Row]:
    for where, value in rows.of_context(context):
        if isinstance(value, Bad):
            yield value
            continue
        said = _said(value)
        if said is None:
            yield Bad(where, "no conversation (a list of messages, or conversations with from and value)")
            continue
        turns = tuple(text for who, text in said if who in _HUMAN and text.strip())
        system = "\n".join(text for who, text in said if who in _SYSTEM)
        yield LoadPrompt(turns=turns, system=system) if turns else Skipped("without a word of the user")


DATASETS = (
    Dataset(
        "sharegpt", "A file of conversations (`conversations` with from and value); their first turn.", rows=_first_turn
    ),
    Dataset(
        "sharegpt_multi_turn",
        "The same file; conversations as a whole, turn by turn.",
        rows=_all_turns,
        conversations=True,
    ),
    Dataset(
        "custom_multi_turn",
        "A file of JSON lines with a list of messages each (or `messages`, or `turns`).",
        rows=_all_turns,
        conversations=True,
    ),
)
