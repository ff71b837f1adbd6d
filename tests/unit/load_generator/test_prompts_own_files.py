"""Files of prompts as people have them: other encodings, separators, headers; chats in columns; what is said of it."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTarget, LoadTestSpec, PromptSpec, TurnSpec
from evalmesh.load.arrivals.schedule import Share
from evalmesh.load_generator.prompts import datasets, inspection
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.opening import open_prompts
from evalmesh.load_generator.protocol import FeederSetup

TARGET = LoadTarget("http://127.0.0.1:9/v1/chat/completions", "tiny")
ZH = "题目;答案\n中国的首都是哪里;北京\n一年有几个月;十二\n"
CHAT = [{"role": "system", "content": "short"}, {"role": "user", "content": "hi"}]


def prompts(path: Path, dataset: str = "custom", **args: Any) -> list[LoadPrompt]:
    spec = PromptSpec(dataset, file_name=path.name, args=args)
    source = open_prompts(FeederSetup(TARGET, spec, str(path), "", 42, 0, 1)).source
    return [prompt for prompt, _ in islice(source.prompts(0, Share()), 2)]


def test_what_was_guessed_is_a_note_and_nothing_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_bytes(ZH.encode("gbk"))
    assert [one.text for one in prompts(path)] == ["中国的首都是哪里", "一年有几个月"]
    notes = inspection.check(LoadTestSpec(TARGET, PromptSpec("custom", file_name="g.csv")), str(path))
    assert "g.csv is read as gb18030." in notes
    assert "the fields of g.csv are taken to end at semicolons." in notes


def test_bytes_that_may_be_several_encodings_are_named_and_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_bytes("id,prompt\n1,你好世界\n".encode("gbk"))
    with pytest.raises(InvalidInput, match=r"'g.csv' has no row.*line 2: not valid UTF-8.*set `encoding`.*gb18030"):
        prompts(path)
    assert prompts(path, encoding="gbk")[0].text == "你好世界"
    with pytest.raises(InvalidInput, match="'klingon' is no encoding of text"):
        prompts(path, encoding="klingon")
    with pytest.raises(InvalidInput, match=r"prompts\.args\.delimiter is '::'"):
        prompts(path, delimiter="::")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.txt", "a"])
def test_marked_and_unmarked_unicode_is_read(tmp_path: Path, encoding: str, name: str) -> None:
    texts = {"a.csv": "prompt\n你好\n", "a.jsonl": '{"prompt": "你好"}\n', "a.json": '[{"prompt": "你好"}]'}
    path = tmp_path / name
    path.write_bytes((texts.get(name) or "你好 and more\n").encode(encoding))
    assert prompts(path)[0].text.startswith("你好")


def test_headers_match_whatever_their_capitals(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Id,Question\n1,why?\n")
    assert [prompts(path, name)[0].text for name in ("custom", "openqa")] == ["why?", "why?"]


def test_a_column_may_hold_chats(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"prompt": CHAT}]), path)
    assert prompts(path)[0].messages == tuple(CHAT)


def test_messages_may_hold_parts_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    parts = [{"type": "text", "text": "what "}, {"type": "text", "text": "now?"}]
    path.write_text(json.dumps({"messages": [{"role": "user", "content": parts}]}) + "\n")
    spec = PromptSpec("custom_multi_turn", file_name=path.name)
    source = open_prompts(FeederSetup(TARGET, spec, str(path), "", 42, 0, 1)).source
    assert next(source.prompts(0, Share()))[0].turns == ("what now?",)


def test_one_prompt_and_turns_contradict_each_other(tmp_path: Path) -> None:
    spec = PromptSpec("custom_multi_turn", prompt="hi", turns=TurnSpec(1, 2))
    with pytest.raises(InvalidInput, match="leave out the prompt") as caught:
        open_prompts(FeederSetup(TARGET, spec, "", "", 42, 0, 1))
    assert caught.value.details["field"] == "prompts.prompt"


def test_each_data_set_says_what_its_file_must_hold() -> None:
    for name in datasets.names():
        assert datasets.get(name).summary.endswith(".")
