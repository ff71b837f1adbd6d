"""Takes out of the rows of a shard what they have in common, and puts it back: solved examples are most of a prompt."""

from collections.abc import Sequence
from dataclasses import replace

from evalmesh.domain.shard_data import PlannedSample, SharedPrompt


def take_out(rows: Sequence[PlannedSample]) -> tuple[SharedPrompt, list[PlannedSample]]:
    """What all rows share, and the rows without it. One row alone shares nothing."""
    if len(rows) < 2:
        return SharedPrompt(), list(rows)
    first = rows[0]
    same_tools = all((row.tools, row.tool_choice) == (first.tools, first.tool_choice) for row in rows)
    prompts = [row.prompt for row in rows]
    count = _common_messages(rows)
    shared = SharedPrompt(
        messages=first.messages[:count],
        prompt=_common_start(min(prompts), max(prompts)),
        tools=first.tools if same_tools else (),
        tool_choice=first.tool_choice if same_tools else "",
    )
    if shared == SharedPrompt():
        return shared, list(rows)
    return shared, [
        replace(
            row,
            messages=row.messages[count:],
            prompt=row.prompt[len(shared.prompt) :],
            tools=() if same_tools else row.tools,
            tool_choice="" if same_tools else row.tool_choice,
        )
        for row in rows
    ]


def put_back(shared: SharedPrompt, rows: list[PlannedSample]) -> list[PlannedSample]:
    """The rows as they were."""
    if shared == SharedPrompt():
        return rows
    return [
        replace(
            row,
            messages=shared.messages + row.messages,
            prompt=shared.prompt + row.prompt,
            tools=shared.tools or row.tools,
            tool_choice=shared.tool_choice or row.tool_choice,
        )
        for row in rows
    ]


def _common_messages(rows: Sequence[PlannedSample]) -> int:
    """How many first messages all rows share."""
    first = rows[0].messages
    count = len(first)
    for row in rows:
        while first[:count] != row.messages[:count]:
            count -= 1
    return count


def _common_start(first: str, last: str) -> str:
    """Of two prompts; of the first and the last in order it is that of all."""
    count = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:count]
