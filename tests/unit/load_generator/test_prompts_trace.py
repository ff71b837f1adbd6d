"""Traces become prompts: of the recorded lengths, with the recorded prefixes, at the recorded times."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.kit import tokenizers as kit

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import Lengths, LoadTarget, PromptSpec
from evalmesh.load.arrivals.schedule import Share
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.opening import open_prompts
from evalmesh.load_generator.prompts.source import Source
from evalmesh.load_generator.protocol import FeederSetup

TARGET = LoadTarget("http://127.0.0.1:9/v1/chat/completions", "tiny")


def common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of what both begin with."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@pytest.fixture(scope="session", params=["byte_level", "across_words"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(getattr(kit, request.param)(tmp_path_factory.mktemp(request.param)))


def source(path: Path, tokenizer: str = "", **spec: Any) -> Source:
    asked = PromptSpec("trace", file_name=path.name, **spec)
    return open_prompts(FeederSetup(TARGET, asked, str(path), tokenizer, 42, 0, 1)).source


def made(opened: Source, count: int, first: int = 0) -> list[tuple[LoadPrompt, int]]:
    return list(islice(opened.prompts(first, Share()), count))


def mooncake(folder: Path, *rows: tuple[int, int, list[int]]) -> Path:
    path = folder / "trace.jsonl"
    lines = [{"timestamp": at, "input_length": tokens, "output_length": 3, "hash_ids": ids} for at, tokens, ids in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


ROWS = ((0, 1300, [1, 2, 3]), (1000, 1200, [1, 2, 4]), (1000, 600, [5, 6]), (4000, 1300, [1, 2, 3]), (5000, 1700, [1]))


def test_lengths_are_exact(tmp_path: Path, tokenizer: str) -> None:
    opened = source(mooncake(tmp_path, *ROWS), tokenizer)
    for (prompt, limit), (_, tokens, _) in zip(made(opened, 5), ROWS, strict=True):
        assert prompt.tokens == opened.context.writer.count(prompt.text) == tokens
        assert (limit, prompt.exact_output) == (3, True)


def test_equal_hash_ids_are_equal_text(tmp_path: Path, tokenizer: str) -> None:
    opened = source(mooncake(tmp_path, *ROWS), tokenizer)
    first, second, other, again, longer = [prompt.text for prompt, _ in made(opened, 5)]
    count = opened.context.writer._tokenizer.count  # type: ignore[attr-defined]
    assert count(first[: common(first, second)]) == pytest.approx(1024, abs=2)
    assert count(first[: common(first, other)]) < 8
    assert count(first[: common(first, longer)]) == pytest.approx(512, abs=2)
    assert first == again


def test_each_level_that_replays_has_texts_of_its_own(tmp_path: Path) -> None:
    opened = source(mooncake(tmp_path, *ROWS))
    before = [prompt.text for prompt, _ in made(opened, 5)]
    opened.context.salt = 5
    after = [prompt.text for prompt, _ in made(opened, 5)]
    assert not set(before) & set(after)
    assert after[0] == after[3]


def test_times_are_those_of_the_rows(tmp_path: Path) -> None:
    opened = source(mooncake(tmp_path, *ROWS))
    assert list(opened.offsets_s(once=True)) == [0, 1, 1, 4, 5]
    # The second round begins one mean gap after the end of the first.
    assert list(islice(opened.offsets_s(once=False), 7)) == [0, 1, 1, 4, 5, 6.25, 7.25]


def test_times_and_prompts_leave_out_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "burst.csv"
    path.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "9,GPT-4,100,0,100,API log\n"
        "11,GPT-4,200,30,230,API log\n"
        "10,GPT-4,300,30,330,API log\n"
        "20,GPT-4,9000,30,9030,API log\n",
        encoding="utf-8",
    )
    opened = source(path, input_tokens=Lengths("uniform", 1, 8000))
    assert list(opened.offsets_s(once=True)) == [0, 6, 6]
    assert [prompt.tokens for prompt, _ in made(opened, 3)] == [472, 200, 300]
    assert not opened.repeated
    made(opened, 4)
    notes = " ".join(opened.notes)
    assert "1 rows were left out: without output tokens" in notes
    assert "1 rows were left out: outside prompts.input_tokens (1 to 8000)" in notes
    assert "older than those before them" in notes


def test_prompts_below_the_template_are_as_short_as_can_be_and_told(tmp_path: Path, tokenizer: str) -> None:
    opened = source(mooncake(tmp_path, (0, 3, [1])), tokenizer)
    ((prompt, _),) = made(opened, 1)
    assert prompt.tokens == opened.context.writer.least
    assert any("below" in note for note in opened.notes)


def test_asked_output_lengths_replace_the_recorded_ones(tmp_path: Path) -> None:
    opened = source(mooncake(tmp_path, *ROWS), output_tokens=Lengths("fixed", 9, 9))
    assert {limit for _, limit in made(opened, 5)} == {9}
    opened = source(mooncake(tmp_path, *ROWS), output_tokens=Lengths("trace"), input_tokens=Lengths("trace"))
    assert {limit for _, limit in made(opened, 5)} == {3}


class TestRecordedTexts:
    ROW = {"timestamp": "2026-01-01T00:00:00Z", "completion_tokens": 5}  # noqa: RUF012

    def one(self, folder: Path, extra: dict[str, object], **spec: Any) -> tuple[Source, LoadPrompt, int]:
        path = folder / "trace.jsonl"
        path.write_text(json.dumps({**self.ROW, **extra}), encoding="utf-8")
        opened = source(path, **spec)
        prompt, limit = next(opened.prompts(0, Share()))
        return opened, prompt, limit

    def test_a_recorded_prompt_keeps_its_recorded_limit(self, tmp_path: Path) -> None:
        opened, prompt, limit = self.one(tmp_path, {"prompt": "hello"})
        assert (prompt.text, limit, prompt.exact_output) == ("hello", 5, False)
        assert opened.context.recorded

    def test_a_recorded_body_is_left_as_it_is(self, tmp_path: Path) -> None:
        body = {"messages": [{"role": "user", "content": "x"}], "model": "other"}
        _, prompt, limit = self.one(tmp_path, {"body": body})
        assert (prompt.body, limit) == (body, 0)

    def test_lengths_of_answers_are_matched_on_request(self, tmp_path: Path) -> None:
        _, prompt, limit = self.one(tmp_path, {"body": {"messages": []}}, args={"match_output_length": True})
        assert (limit, prompt.exact_output) == (5, True)


def test_what_is_no_trace_is_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 9, encoding="utf-8")
    with pytest.raises(InvalidInput, match="first is line 1: it has no timestamp"):
        made(source(path), 1)


def test_an_unknown_unit_of_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="timestamp_unit is 'h'"):
        made(source(mooncake(tmp_path, *ROWS), args={"timestamp_unit": "h"}), 1)


class TestRealTraces:
    @pytest.mark.parametrize(
        ("name", "rows", "seconds"),
        [
            ("AzureLLMInferenceTrace_code.csv", 8819, 3400),
            ("AzureLLMInferenceTrace_conv.csv", 19366, 3500),
            ("mooncake_conversation_trace_first4000.jsonl", 4000, 1100),
            ("mooncake_synthetic_trace.jsonl", 3993, 1100),
        ],
    )
    def test_all_rows_are_there_in_order(self, shared_data: Path, name: str, rows: int, seconds: float) -> None:
        opened = source(shared_data / "traces" / name)
        offsets = list(opened.offsets_s(once=True))
        assert len(offsets) == pytest.approx(rows, abs=5)
        assert offsets == sorted(offsets)
        assert offsets[-1] == pytest.approx(seconds, rel=0.25)

    def test_mooncake_prefixes_are_shared(self, shared_data: Path) -> None:
        path = shared_data / "traces/mooncake_conversation_trace_first4000.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:60]]
        texts = [prompt.text.split(" ") for prompt, _ in made(source(path), 60)]
        assert [len(words) for words in texts] == [row["input_length"] for row in rows]
        for a in range(0, 60, 7):
            for b in range(a + 1, 60, 5):
                blocks = common(rows[a]["hash_ids"], rows[b]["hash_ids"])
                shared = common(texts[a], texts[b])
                assert shared // 512 >= min(blocks, min(len(texts[a]), len(texts[b])) // 512)
                assert shared <= 512 * blocks + 5
