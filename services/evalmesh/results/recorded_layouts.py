"""Rows of answers as other tools write them, as the rows that `recorded` reads.

| file | a row is told by |
|---|---|
| predictions of EvalScope, and of our own outputs | `model_output` with `choices` |
| reviews of EvalScope, and of our own outputs | `sample_score` |
| `samples_*.jsonl` of lm-evaluation-harness | `doc_id` with `resps` |

In our own predictions the id tells sample and repeat. EvalScope numbers the answers, repeats beside each other, so its
`index` is the row's only where nothing was asked twice; its reviews tell both (`group_id`, `generation_index`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_OWN_ID = re.compile(r"[^/]+/(?P<id>.+)#(?P<repeat>\d+)")


def own_rows(row: Row) -> Sequence[Row]:
    """The answers in a row; the row itself where it is of no known layout, none where it holds an error only."""
    if isinstance(row.get("model_output"), Mapping):
        return _of_prediction(row, row["model_output"])
    if isinstance(row.get("sample_score"), Mapping):
        return _of_review(row, row["sample_score"])
    if "doc_id" in row and isinstance(row.get("resps"), list):
        return _of_samples(row, row["resps"])
    return (row,)


def _of_prediction(row: Row, output: Row) -> Sequence[Row]:
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        return ()  # it failed
    message = choices[0].get("message")
    message = message if isinstance(message, Mapping) else {}
    named = _OWN_ID.fullmatch(str(output.get("id") or ""))
    place: Row = {"index": row.get("index")}
    if named is not None:
        place = {"id": named["id"], "repeat": int(named["repeat"])}
    return (
        {
            **place,
            **_said(message),
            "finish_reason": choices[0].get("stop_reason"),
            "tool_calls": message.get("tool_calls"),
        },
    )


def _of_review(row: Row, scored: Row) -> Sequence[Row]:
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    score = scored.get("score")
    said: Row = {}
    if isinstance(last, Mapping) and last.get("role") == "assistant":
        said = _said(last)
    elif isinstance(score, Mapping) and isinstance(score.get("prediction"), str):
        said = {"text": score["prediction"]}
    repeat = scored.get("generation_index")
    if isinstance(repeat, int) and isinstance(scored.get("group_id"), int):
        return ({"index": scored["group_id"], "repeat": repeat, **said},)
    return ({"index": row.get("index"), **said},)


def _said(message: Row) -> Row:
    """The words of a message, whose content may be a list of parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    texts = [part for part in parts if isinstance(part, Mapping)]
    thought = "".join(str(part["reasoning"]) for part in texts if isinstance(part.get("reasoning"), str))
    spoken = "".join(str(part["text"]) for part in texts if isinstance(part.get("text"), str))
    return {"text": spoken if texts else content, **({"reasoning": thought} if thought else {})}


def _of_samples(row: Row, answers: Sequence[Any]) -> Sequence[Row]:
    """One answer for each repeat; log-likelihoods are one for each option."""
    place = {"index": row["doc_id"]}
    first = [answer[0] if isinstance(answer, list) and answer else answer for answer in answers]
    if first and all(_is_likelihood(one) for one in first):
        scores = [{"logprob": float(one[0]), "is_greedy": str(one[1]).lower() == "true"} for one in first]
        return ({**place, "continuations": scores},)
    texts = answers[0] if answers and isinstance(answers[0], list) else answers
    return tuple({**place, "repeat": repeat, "text": text} for repeat, text in enumerate(texts))


def _is_likelihood(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or str(value[1]).lower() not in {"true", "false"}:
        return False
    try:
        float(value[0])
    except (TypeError, ValueError):
        return False
    return True


def is_repeated(row: Row) -> bool:
    """Whether the same answer may stand in the file again: lm-evaluation-harness writes it once for each filter."""
    return "doc_id" in row and "filter" in row
