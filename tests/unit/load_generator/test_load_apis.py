"""Bodies and readers of the load APIs, against answers as servers write them."""

import json
import sys
import textwrap

import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis import base, registry
from evalmesh.load_generator.apis.base import Ask

MESSAGES = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"})
PICTURE = (
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ],
    },
)


def body(api, **ask):
    ask.setdefault("model", "m")
    ask.setdefault("stream", True)
    return json.loads(registry.get(api).body(Ask(**ask)))


def read(api, *events, texts=False):
    """A reader that saw these events, one every 10 ms."""
    reader = registry.get(api).reader()
    if texts:
        reader.texts = []
    for position, value in enumerate(events):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        reader.event(data, position / 100)
    return reader


def read_whole(api, value, at_s=3.0):
    reader = registry.get(api).reader()
    reader.whole(value if isinstance(value, bytes) else json.dumps(value).encode(), at_s)
    return reader


def counts(reader):
    return reader.input_tokens, reader.output_tokens, reader.reasoning_tokens, reader.cached_tokens


def choice(finish=None, index=0, **delta):
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


class TestBodies:
    def test_chat(self) -> None:
        assert body("chat", messages=MESSAGES, max_tokens=8, min_tokens=2) == {
            "model": "m",
            "messages": list(MESSAGES),
            "stream": True,
            "max_tokens": 8,
            "min_tokens": 2,
            "stream_options": {"include_usage": True},
        }
        assert body("chat", text="hi", stream=False) == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
        }
        assert body("chat", messages=PICTURE)["messages"] == list(PICTURE)

    def test_completions_take_text_or_token_ids(self) -> None:
        assert body("completions", text="hi")["prompt"] == "hi"
        assert body("completions", token_ids=(1, 2, 3), text="hi")["prompt"] == [1, 2, 3]

    def test_responses(self) -> None:
        assert body("responses", text="hi", max_tokens=8) == {
            "model": "m", "stream": True, "input": "hi", "max_output_tokens": 8,
        }  # fmt: skip
        [message] = body("responses", messages=PICTURE)["input"]
        assert message["content"] == [
            {"type": "input_text", "text": "what is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ]

    def test_embeddings_and_rerank(self) -> None:
        assert body("embeddings", texts=("a", "b")) == {"model": "m", "input": ["a", "b"]}
        assert body("embeddings", text="a") == {"model": "m", "input": "a"}
        assert body("rerank", query="q", texts=("a", "b")) == {"model": "m", "query": "q", "documents": ["a", "b"]}

    def test_extra_keys_win_and_none_removes(self) -> None:
        found = body("chat", text="hi", max_tokens=8, extra={"temperature": 0, "max_tokens": 9, "stream_options": None})
        assert found["temperature"] == 0
        assert found["max_tokens"] == 9
        assert "stream_options" not in found


class TestChat:
    def test_a_stream(self) -> None:
        usage = {
            "prompt_tokens": 11,
            "completion_tokens": 3,
            "completion_tokens_details": {"reasoning_tokens": 1},
            "prompt_tokens_details": {"cached_tokens": 4},
        }
        reader = read(
            "chat",
            choice(role="assistant", content=""),
            choice(reasoning_content="hm"),
            choice(content="a"),
            choice(content="bc"),
            choice("stop"),
            {"choices": [], "usage": usage},
            b"[DONE]",
            texts=True,
        )
        assert reader.outcome() is Outcome.OK
        assert list(reader.times) == [0.01, 0.02, 0.03]
        assert list(reader.sizes) == [2, 1, 2]
        assert reader.texts == ["a", "bc"]
        assert reader.stopped
        assert (reader.input_tokens, reader.output_tokens, reader.reasoning_tokens, reader.cached_tokens) == (
            11,
            3,
            1,
            4,
        )

    @pytest.mark.parametrize(
        "delta",
        [
            {"reasoning": "hm"},
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
            {"function_call": {"arguments": "1"}},
            {"refusal": "no"},
            {"content": [{"type": "text", "text": "a"}]},
        ],
    )
    def test_whatever_carries_text_is_content(self, delta) -> None:
        reader = read("chat", choice(**delta), choice("stop"))
        assert list(reader.times) == [0.0]
        assert reader.outcome() is Outcome.OK

    @pytest.mark.parametrize("delta", [{"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}])
    def test_a_role_is_no_token(self, delta) -> None:
        reader = read("chat", choice(**delta), choice("stop"))
        assert not reader.times
        assert reader.outcome() is Outcome.EMPTY

    def test_thoughts_as_parts_of_the_content_are_reasoning(self) -> None:
        """As Magistral and its successors send them."""
        thoughts = [choice(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm "}]}])] * 4
        reader = read("chat", *thoughts, choice(content="a"), choice("stop"), texts=True)
        assert list(reader.times) == [0.0, 0.01, 0.02, 0.03, 0.04]
        assert list(reader.sizes) == [3, 3, 3, 3, 1]
        assert reader.reasoning_tokens == 4
        assert reader.texts == ["a"]
        whole = {
            "message": {"content": [{"type": "thinking", "thinking": "hm"}, {"text": "a"}]},
            "finish_reason": "stop",
        }
        assert read_whole("chat", {"choices": [whole]}).outcome() is Outcome.OK

    @pytest.mark.parametrize("api", ["chat", "completions"])
    @pytest.mark.parametrize("mark", [b"[DONE]", b"[DONE] ", b" [DONE]\r"])
    def test_the_end_mark_alone_ends_an_answer(self, api, mark) -> None:
        said = {"choices": [{"index": 0, "delta": {"content": "a"}} if api == "chat" else {"index": 0, "text": "a"}]}
        assert read(api, said, mark).outcome() is Outcome.OK
        assert read(api, said).outcome() is Outcome.TRUNCATED
        assert read(api, mark).outcome() is Outcome.EMPTY

    def test_every_choice_must_have_ended(self) -> None:
        start = [choice(content="a"), choice(index=1, content="b"), choice("stop")]
        assert read("chat", *start).outcome() is Outcome.TRUNCATED
        both = read("chat", *start, choice("length", 1))
        assert both.outcome() is Outcome.OK
        assert both.choices == 2

    @pytest.mark.parametrize(
        ("event", "outcome"),
        [
            ({"error": {"message": "out of memory", "code": 500}}, Outcome.ERROR_EVENT),
            ({"error": "out of memory"}, Outcome.ERROR_EVENT),
            ({"object": "error", "message": "out of memory"}, Outcome.ERROR_EVENT),
            ({"choices": [], "error": {"message": "out of memory"}}, Outcome.ERROR_EVENT),
            (b'{"choices": [{"del', Outcome.MALFORMED),
            (b"out of memory", Outcome.MALFORMED),
            (b'{"choices": [{"delta": {"content": "\xff"}}]}', Outcome.MALFORMED),
            ({"choices": [{"delta": {"content": 7}}]}, Outcome.MALFORMED),
        ],
    )
    def test_the_first_failure_counts(self, event, outcome) -> None:
        reader = read("chat", choice(content="a"), event, b"{", choice("stop"), b"[DONE]")
        assert reader.outcome() is outcome
        assert outcome is not Outcome.ERROR_EVENT or reader.detail == "out of memory"

    def test_events_without_meaning_are_passed_over(self) -> None:
        reader = read("chat", b"", {"choices": []}, choice(content="a"), {"choices": None}, choice("stop"))
        assert reader.outcome() is Outcome.OK

    def test_a_cut_event_at_the_end_is_a_truncation(self) -> None:
        reader = read("chat", choice(content="a"))
        reader.cut(b'{"choices": [{"del', 1.0)
        assert reader.outcome() is Outcome.TRUNCATED
        whole = read("chat", choice(content="a"))
        whole.cut(json.dumps(choice("stop")).encode(), 1.0)
        assert whole.outcome() is Outcome.OK

    def test_an_answer_in_one_piece(self) -> None:
        answer = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        reader = read_whole("chat", answer)
        assert (reader.outcome(), list(reader.times), reader.output_tokens) == (Outcome.OK, [3.0], 2)
        assert read_whole("chat", json.dumps(answer)[:50].encode()).outcome() is Outcome.MALFORMED
        assert read_whole("chat", {"error": {"message": "no"}}).outcome() is Outcome.ERROR_EVENT
        assert read_whole("chat", b"").outcome() is Outcome.TRUNCATED
        answer["choices"][0]["finish_reason"] = None  # the end of its JSON is the end of an answer in one piece
        assert read_whole("chat", answer).outcome() is Outcome.OK
        answer["choices"][0]["finish_reason"] = "abort"
        assert read_whole("chat", answer).outcome() is Outcome.TRUNCATED
        answer["choices"][0] = {"message": {"content": ""}, "finish_reason": "stop"}
        assert read_whole("chat", answer).outcome() is Outcome.EMPTY


def test_completions() -> None:
    def part(text, finish=None):
        return {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}

    ended = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    reader = read("completions", part("a"), part("b"), part("", "length"), ended, b"[DONE]")
    assert (reader.outcome(), len(reader.times), reader.output_tokens) == (Outcome.OK, 2, 2)
    assert not reader.stopped
    assert read("completions", part("a"), ended).outcome() is Outcome.TRUNCATED
    assert read("completions", part("a"), {"error": {"message": "x"}}).outcome() is Outcome.ERROR_EVENT
    assert read_whole("completions", part("a", "stop")).outcome() is Outcome.OK


USAGE = {
    "input_tokens": 5,
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1},
    "input_tokens_details": {"cached_tokens": 2},
}


class TestResponses:
    def test_a_stream(self) -> None:
        reader = read(
            "responses",
            {"type": "response.created", "response": {"status": "in_progress", "usage": None}},
            {"type": "response.output_item.added", "item": {}},
            {"type": "response.reasoning_text.delta", "delta": "hm"},
            {"type": "response.output_text.delta", "delta": "a"},
            {"type": "response.output_text.delta", "delta": "b"},
            {"type": "response.output_text.done", "text": "ab"},
            {"type": "response.completed", "response": {"status": "completed", "usage": USAGE}},
            texts=True,
        )
        assert reader.outcome() is Outcome.OK
        assert len(reader.times) == 3
        assert reader.texts == ["a", "b"]
        assert (reader.input_tokens, reader.output_tokens, reader.reasoning_tokens, reader.cached_tokens) == (
            5,
            3,
            1,
            2,
        )

    def test_how_it_ends(self) -> None:
        delta = {"type": "response.output_text.delta", "delta": "a"}
        call = {"type": "response.function_call_arguments.delta", "delta": "{"}
        cut = {"type": "response.incomplete", "response": {"usage": USAGE}}
        failed = {"type": "response.failed", "response": {"error": {"message": "no"}}}
        assert read("responses", delta, cut).outcome() is Outcome.OK
        assert not read("responses", delta, cut).stopped
        assert read("responses", call, {"type": "response.completed"}).outcome() is Outcome.OK
        assert read("responses", delta).outcome() is Outcome.TRUNCATED
        assert read("responses", delta, failed).outcome() is Outcome.ERROR_EVENT
        assert read("responses", {"type": "error", "message": "no"}).outcome() is Outcome.ERROR_EVENT
        assert read("responses", {"type": "response.completed"}).outcome() is Outcome.EMPTY

    def test_in_one_piece(self) -> None:
        item = {"type": "message", "content": [{"type": "output_text", "text": "ab"}]}
        answer = {"status": "completed", "output": [item], "usage": USAGE, "error": None}
        reader = read_whole("responses", answer)
        assert (reader.outcome(), reader.output_tokens) == (Outcome.OK, 3)
        assert read_whole("responses", {**answer, "status": "in_progress"}).outcome() is Outcome.TRUNCATED
        assert read_whole("responses", {**answer, "status": "failed"}).outcome() is Outcome.ERROR_EVENT


def test_embeddings() -> None:
    answer = {"data": [{"embedding": [0.1, 0.2]}, {"embedding": "AAAA"}], "usage": {"prompt_tokens": 9}}
    reader = read_whole("embeddings", answer)
    assert (reader.outcome(), reader.input_tokens, reader.output_tokens) == (Outcome.OK, 9, 0)
    assert not reader.generates
    assert read_whole("embeddings", {"data": []}).outcome() is Outcome.EMPTY
    assert read_whole("embeddings", {}).outcome() is Outcome.MALFORMED
    assert read_whole("embeddings", {"error": {"message": "x"}}).outcome() is Outcome.ERROR_EVENT


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"results": [{"index": 0, "relevance_score": 0.9}], "usage": {"total_tokens": 12}}, 12),
        ({"results": [{"index": 0, "relevance_score": 0.9}], "usage": {"prompt_tokens": 5, "total_tokens": 5}}, 5),
        ({"results": [{"index": 0, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 1}}}, 0),
        ({"results": [{"index": 0, "relevance_score": 1}], "meta": {"billed_units": {"input_tokens": 8}}}, 8),
        ({"results": [{"index": 0, "relevance_score": 1}], "meta": {"tokens": {"input_tokens": 7.0}}}, 7),
        ([{"index": 0, "score": 0.3}], 0),
    ],
)
def test_rerank_as_jina_vllm_cohere_and_tei_answer(answer, tokens) -> None:
    reader = read_whole("rerank", answer)
    assert (reader.outcome(), reader.input_tokens) == (Outcome.OK, tokens)


def test_rerank_without_scores_is_no_ranking() -> None:
    assert read_whole("rerank", {"results": [{"index": 0}]}).outcome() is Outcome.MALFORMED
    assert read_whole("rerank", {"results": []}).outcome() is Outcome.EMPTY


class TestPlugIns:
    @pytest.fixture
    def parrot(self, tmp_path, monkeypatch):
        """The example of the documentation, installed as a package."""
        source = base.__doc__.split("at the end:\n", 1)[1].split("The engine calls", 1)[0]
        (tmp_path / "parrot_plug_in.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = tmp_path / "parrot_plug_in-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-plug-in\nVersion: 1\n", encoding="utf-8")
        entries = "[evalmesh.load_apis]\nparrot = parrot_plug_in:ParrotApi\nbroken = parrot_plug_in:Nothing\n"
        entries += "strange = builtins:dict\n"
        (info / "entry_points.txt").write_text(entries, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "parrot_plug_in", raising=False)

    def test_the_documented_example_works(self, parrot) -> None:
        assert "parrot_plug_in" not in sys.modules
        assert "parrot" in registry.names()
        assert "parrot_plug_in" not in sys.modules, "names are told without loading anything"
        assert body("parrot", text="hello") == {"say": "hello", "stream": True}
        reader = read("parrot", {"word": "hel"}, {"word": "lo"}, {"end": True, "words": 2})
        assert (reader.outcome(), len(reader.times), reader.output_tokens) == (Outcome.OK, 2, 2)
        assert read("parrot", {"word": "hel"}).outcome() is Outcome.TRUNCATED
        assert read("parrot", b"{").outcome() is Outcome.MALFORMED

    @pytest.mark.parametrize(
        ("name", "words"),
        [("broken", "failed with AttributeError"), ("strange", "makes a dict"), ("none", "there is none named")],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, parrot, name, words) -> None:
        with pytest.raises(InvalidInput, match=words) as caught:
            registry.get(name)
        assert caught.value.details["field"] == "target.api"


@pytest.mark.parametrize("count", [2**64 - 1, 2**32, -5])
def test_counts_that_no_record_holds_are_unknown(count):
    usage = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    for api in ("chat", "completions"):
        part = {"delta": {"content": "a"}} if api == "chat" else {"text": "a"}
        reader = read(api, {"choices": [{"index": 0, **part, "finish_reason": "stop"}], "usage": usage})
        assert counts(reader) == (0, 0, 0, 0)
        assert (reader.has_usage, reader.outcome()) == (False, Outcome.OK)
