"""What the samples of a shard share stands once in its file, and every reader gets the whole requests."""

import pytest

from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.sample import Sample
from evalmesh.domain.shard_data import PlannedSample, ShardHeader, SharedPrompt
from evalmesh.wire.runs.shard_files import BenchmarkFiles
from evalmesh.wire.runs.shared_prompt import put_back, take_out

SHOTS = (Message("system", "Be brief."), Message("user", "1+1?"), Message("assistant", "2"))
TOOLS = (ToolDefinition("add", "", {"type": "object"}),)


def row(number: int, **more) -> PlannedSample:
    sample = Sample(f"s/{number}", number, "s", f"{number}?", (str(number),))
    return PlannedSample(sample, **{"kind": "chat", "digests": (f"d{number}",)} | more)


def chat(number: int, *before: Message, **more) -> PlannedSample:
    return row(number, messages=(*before, Message("user", f"{number}?")), **more)


ROWS = {
    "solved examples": [chat(n, *SHOTS) for n in range(3)],
    "some have fewer": [chat(0, *SHOTS), chat(1, *SHOTS[:2]), chat(2, *SHOTS)],
    "nothing in common": [chat(n) for n in range(3)],
    "the same question twice": [chat(1, *SHOTS), chat(1, *SHOTS)],
    "tools": [chat(n, tools=TOOLS, tool_choice="auto") for n in range(2)],
    "tools of their own": [chat(0, tools=TOOLS), chat(1)],
    "one choice of tools each": [chat(0, tools=TOOLS, tool_choice="add"), chat(1, tools=TOOLS)],
    "one row": [chat(0, *SHOTS, tools=TOOLS)],
    "no row": [],
    "a prompt": [row(n, kind="completion", prompt=f"Q: 1+1?\n\n2\n\nQ: {n}?") for n in range(3)],
    "one prompt begins another": [row(n, kind="completion", prompt="Q" * (n + 1)) for n in range(3)],
    "continuations": [row(n, kind="loglikelihood", prompt=f"Q: {n}", continuations=(" a", " b")) for n in range(2)],
    "contexts": [row(n, kind="loglikelihood", contexts=("A", "B"), continuations=(f"{n}",) * 2) for n in range(2)],
    "several turns": [chat(n, *SHOTS, followups=("And?",)) for n in range(2)],
    "texts scored whole": [row(n, kind="loglikelihood", continuations=(f"{n}",), rolling=True) for n in range(2)],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_come_back_as_they_were(rows):
    shared, own = take_out(rows)
    assert put_back(shared, own) == rows


def test_what_is_shared_is_in_no_row():
    shared, own = take_out(ROWS["solved examples"])
    assert shared == SharedPrompt(messages=SHOTS)
    assert [one.messages for one in own] == [(Message("user", f"{n}?"),) for n in range(3)]


class Store:
    """Holds one object."""

    async def put(self, key: str, data: bytes) -> None:
        self.data = data

    async def get(self, key: str) -> bytes:
        return self.data


async def test_a_file_holds_the_examples_once():
    store = Store()
    files = BenchmarkFiles(store, "r", "b")
    header = ShardHeader("r", "b", 0, "s", GenerationConfig())
    await files.write_requests(header, ROWS["solved examples"])
    assert store.data.count(b"1+1?") == 1
    found, rows = await files.read_requests(0)
    assert rows == ROWS["solved examples"]
    assert (found.run, found.shard, found.shared.messages) == ("r", 0, SHOTS)
