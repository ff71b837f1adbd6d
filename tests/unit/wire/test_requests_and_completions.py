"""Requests, completions and previews over the public API: everything arrives, and what makes no sense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.completion import Completion, CompletionError, ContinuationScore, TokenLogprob
from evalmesh.domain.content import ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.sample import Sample
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.v1 import models_pb2 as pb
from evalmesh.wire.runs import benchmarks, models
from evalmesh.wire.runs.checks import check_generation

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
MEDIA = st.builds(
    ContentPart,
    st.sampled_from(["image", "audio", "video"]),
    sha256=SHA,
    mime=st.just("image/png"),
    size_bytes=st.integers(0, 2**40),
)
PARTS = st.lists(MEDIA | st.builds(ContentPart, st.just("text"), TEXT), min_size=1, max_size=3).map(tuple)
CALLS = st.lists(st.builds(ToolCall, TEXT, TEXT, TEXT), max_size=2).map(tuple)
MESSAGES = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), TEXT | PARTS, CALLS, TEXT)
TOOLS = st.lists(
    st.builds(ToolDefinition, st.text("abc", min_size=1), TEXT, st.just({"type": "object", "minimum": 1})), max_size=2
).map(tuple)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
REQUESTS = st.builds(
    Request,
    TEXT.filter(bool),
    st.just(0),
    st.just("chat"),
    st.just(""),
    st.lists(MESSAGES, min_size=1, max_size=3).map(tuple),
    tools=TOOLS,
)
JUDGE = Request("s", 0, "loglikelihood", "", prompt="It is", continuations=(" good", " bad"))
ROLLING = Request("s", 0, "loglikelihood", "", continuations=("A long text.",), rolling=True)
COMPLETIONS = st.builds(
    Completion,
    TEXT,
    st.just(0),
    st.just(""),
    TEXT,
    finish_reason=st.sampled_from(["stop", "tool_calls"]),
    continuations=st.lists(
        st.builds(ContinuationScore, NUMBERS, st.integers(0, 99), st.integers(0, 99), st.booleans()), max_size=3
    ).map(tuple),
    embeddings=st.lists(st.lists(NUMBERS, max_size=3).map(tuple), max_size=2).map(tuple),
    tool_calls=CALLS,
    turns=st.lists(TEXT, max_size=2).map(tuple),
    refusal=st.none() | TEXT.filter(bool),
    media=st.lists(MEDIA, max_size=2).map(tuple),
    top_logprobs=st.lists(
        st.builds(TokenLogprob, TEXT, NUMBERS, st.lists(st.tuples(TEXT, NUMBERS), max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    error=st.none() | st.builds(CompletionError, st.just("server"), TEXT),
)


def arrived(request: Request) -> Request:
    found = models.request_from_proto(models.request_to_proto(request))
    assert found.sample_id == request.id
    return Request(
        request.sample_id,
        0,
        found.kind,
        "",
        found.messages,
        found.prompt,
        found.continuations,
        found.tools,
        found.tool_choice,
        found.rolling,
        found.contexts,
        found.followups,
    )


@given(REQUESTS)
def test_a_conversation_arrives_whole(request):
    assert arrived(request) == request


@pytest.mark.parametrize(
    "request_",
    [
        JUDGE,
        ROLLING,
        Request("s", 0, "loglikelihood", "", prompt="It", continuations=(" bad",) * 2, contexts=(" is", " was")),
        Request("s", 0, "chat", "", (Message("user", "x"),), followups=("y", "z")),
        Request("s", 0, "completion", "", prompt="Once"),
        Request("s", 0, "embedding", "", prompt="Once"),
        Request("s", 0, "chat", "", (Message("user", "x"),), tools=(ToolDefinition("add"),), tool_choice="add"),
    ],
)
def test_every_kind_arrives(request_):
    assert arrived(request_) == request_


@given(COMPLETIONS)
def test_a_completion_arrives_whole(completion):
    assert models.completion_from_proto(models.completion_to_proto(completion, completion.sample_id)) == completion


@given(REQUESTS)
def test_a_preview_shows_media_and_tools(request):
    reference = {"test": "assert f(2**60)", "n": 2**60, "deep": [[[[None, 0.5]]]]}
    sample = Sample("s", 0, "s", "", ("A",), reference=reference, group="g", tags=("t",))
    planned = PlannedSample(sample, request.kind, ("d",), request.messages, tools=request.tools)
    preview = benchmarks.preview_from_proto(benchmarks.preview_to_proto(benchmarks.preview_of(planned)))
    assert (preview.messages, preview.tools, preview.target) == (request.messages, request.tools, ("A",))
    assert (preview.reference, preview.group, preview.tags) == (reference, "g", ("t",))


def test_a_request_of_an_older_client_names_no_kind():
    assert models.request_from_proto(pb.ModelRequest(id="1", prompt="x")).kind == "completion"
    assert models.request_from_proto(pb.ModelRequest(id="1", prompt="x", continuations=["y"])).kind == "loglikelihood"


USER = pb.Message(role="user", content="x")
URL = pb.Message(role="user", parts=[pb.ContentPart(kind="image", text="http://127.0.0.1/a.png")])


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (pb.ModelRequest(id="1"), "either messages or a prompt"),
        (pb.ModelRequest(id="1", prompt="x", messages=[USER]), "either messages or a prompt"),
        (pb.ModelRequest(id="1", prompt="x", kind="chat"), "a chat request has messages"),
        (pb.ModelRequest(id="1", messages=[USER], kind="completion"), "a completion request has a prompt"),
        (pb.ModelRequest(id="1", prompt="x", kind="loglikelihood"), "loglikelihood requests have continuations"),
        (pb.ModelRequest(id="1", prompt="x", continuations=["y"], rolling=True), "without a prompt are rolling"),
        (pb.ModelRequest(id="1", prompt="x", rolling=True), "without a prompt are rolling"),
        (pb.ModelRequest(id="1", prompt="x", continuations=["y"], contexts=["a", "b"]), "one for each of"),
        (pb.ModelRequest(id="1", prompt="x", contexts=["a"]), "one for each of"),
        (pb.ModelRequest(id="1", prompt="x", followups=["y"]), "only chat requests have several turns"),
        (pb.ModelRequest(id="1", prompt="x", continuations=["y"], kind="completion"), "have continuations, and only"),
        (pb.ModelRequest(id="1", prompt="x", kind="chit-chat"), "`chat`, `completion`, `loglikelihood`"),
        (pb.ModelRequest(id="1", prompt="x", tools=[pb.ToolDefinition(name="a")]), "only chat requests have tools"),
        (pb.ModelRequest(id="1", messages=[USER], tools=[pb.ToolDefinition()]), r"tools\[0\].name is empty"),
        (pb.ModelRequest(id="1", messages=[USER], tool_choice="required"), "needs tools"),
        (
            pb.ModelRequest(id="1", messages=[USER], tools=[pb.ToolDefinition(name="add")], tool_choice="sub"),
            "`auto`, `required`, `add`",
        ),
        (pb.ModelRequest(id="1", messages=[URL]), r"messages\[0\].parts\[0\].*upload media first"),
        (
            pb.ModelRequest(id="1", messages=[pb.Message(role="user", content="x", parts=[pb.ContentPart(text="y")])]),
            "either content or parts",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(request_, says):
    with pytest.raises(InvalidInput, match=says):
        models.request_from_proto(request_, "requests[0]")


def test_top_logprobs_arrive_and_are_bounded():
    config = GenerationConfig(top_logprobs=0)
    assert models.generation_from_proto(models.generation_to_proto(config)) == config
    check_generation(config)
    with pytest.raises(InvalidInput, match="from 0 to 20"):
        check_generation(GenerationConfig(top_logprobs=21))
