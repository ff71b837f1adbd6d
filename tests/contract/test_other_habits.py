"""Habits of servers that speak messages or responses: framing, odd fields, and trouble, whole and streamed."""

import asyncio
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.kit.engine import RawServer, Wire
from tests.kit.habits import Reply
from tests.kit.habits.what import JSON, PIECES, SSE, TEXT
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import Engine, ModelSpec
from evalmesh.domain.work import Pool

Event = dict[str, Any]


def said(kind: str, **body: Any) -> Event:
    return {"type": kind, **body}


def framed(events: list[Event], end: str = "\n\n", *, named: bool = True) -> bytes:
    heads = [f"event: {one['type']}{end[: len(end) // 2]}" if named else "" for one in events]
    return "".join(f"{head}data: {json.dumps(one)}{end}" for head, one in zip(heads, events, strict=True)).encode()


@dataclass(frozen=True)
class Api:
    engine: Engine
    path: str
    whole: Event
    stream: list[Event]
    error: Callable[[str, str], Event]
    """Of a type, with a message, as an event."""


_USED = {"input_tokens": 7, "output_tokens": 5}
MESSAGES = Api(
    "anthropic",
    "/v1/messages",
    {"type": "message", "content": [said("text", text=TEXT)], "stop_reason": "end_turn", "usage": _USED},
    [
        said("message_start", message={"content": [], "usage": {"input_tokens": 7, "output_tokens": 1}}),
        said("content_block_start", index=0, content_block=said("text", text="")),
        *[said("content_block_delta", index=0, delta=said("text_delta", text=piece)) for piece in PIECES],
        said("content_block_stop", index=0),
        said("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
        said("message_stop"),
    ],
    lambda kind, words: said("error", error=said(kind, message=words)),
)
_OUTPUT = [said("message", role="assistant", content=[said("output_text", text=TEXT)])]
_RESPONSE = {"status": "completed", "output": _OUTPUT, "usage": {**_USED, "total_tokens": 12}}
RESPONSES = Api(
    "openai",
    "/v1/responses",
    _RESPONSE,
    [
        said("response.created", response={"status": "in_progress", "output": []}),
        said("response.output_item.added", output_index=0, item=said("message", content=[])),
        *[said("response.output_text.delta", output_index=0, delta=piece) for piece in PIECES],
        said("response.output_text.done", output_index=0, text=TEXT),
        said("response.completed", response=_RESPONSE),
    ],
    lambda kind, words: said("error", code=kind, message=words),
)
APIS = {"messages": MESSAGES, "responses": RESPONSES}


@dataclass(frozen=True)
class Case:
    streamed: Reply | None
    whole: Reply | None
    text: str = TEXT
    error: str = ""
    words: str = ""


def stream(api: Api, *, before: bytes = b"", end: str = "\n\n", named: bool = True, **reply: Any) -> Reply:
    return Reply(before + framed(api.stream, end, named=named), **{"kind": SSE, **reply})


def whole(api: Api, **reply: Any) -> Reply:
    return Reply(json.dumps(api.whole).encode(), **{"frame": "length", **reply})


def refused(api: Api, status: str, kind: str, *headers: str) -> Reply:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "Sorry."}}).encode()
    return Reply(body, status=status, headers=headers, frame="length")


def framings(api: Api) -> dict[str, Case]:
    odd = [*api.stream[: len(api.stream) // 2], said("news", text="nothing"), *api.stream[len(api.stream) // 2 :]]
    return {
        "as it should be": Case(stream(api), whole(api)),
        "every byte by itself": Case(stream(api, cut=1), whole(api, frame="chunked", cut=1)),
        "seven bytes at a time": Case(stream(api, cut=7), whole(api, frame="chunked", cut=7)),
        "CRLF": Case(stream(api, end="\r\n\r\n", cut=5), None),
        "CR": Case(stream(api, end="\r\r", cut=5), None),
        "events without names": Case(stream(api, named=False), None),
        "comments and blank lines": Case(
            stream(api, before=b": ping\n\n\n\n"), Reply(b"\n \n" + json.dumps(api.whole).encode(), frame="chunked")
        ),
        "a byte order mark": Case(stream(api, before=b"\xef\xbb\xbf"), None),
        "called the other form": Case(stream(api, kind=JSON), whole(api, kind=SSE)),
        "called nothing": Case(stream(api, kind=""), whole(api, kind="")),
        "the end of the connection": Case(stream(api, frame="close"), whole(api, frame="close")),
        "whole although a stream was asked for": Case(whole(api), stream(api)),
        "events nobody knows": Case(Reply(framed(odd), SSE), None),
        "an end mark of another API": Case(Reply(framed(api.stream) + b"data: [DONE]\n\n", SSE), None),
    }


def troubles(api: Api) -> dict[str, Case]:
    half = framed(api.stream[:-3])
    late = Reply(half + framed([api.error("overloaded_error", "Overloaded")]), SSE)
    return {
        "no end": Case(Reply(half, SSE), None, error="truncated"),
        "nothing at all": Case(Reply(b"", SSE), Reply(b"", frame="length"), error="malformed"),
        "an error after some text": Case(late, None, error="server", words="Overloaded"),
        "not JSON": Case(None, Reply(b"<html>gateway</html>", frame="length"), error="malformed"),
        "no content": Case(None, Reply(b'{"usage": {}}', frame="length"), error="malformed"),
        "529": Case(
            refused(api, "529 Overloaded", "overloaded_error"),
            refused(api, "529 Overloaded", "overloaded_error"),
            error="server",
            words="Sorry.",
        ),
        "429": Case(
            refused(api, "429 Too Many", "rate_limit_error", "retry-after: 0"),
            refused(api, "429 Too Many", "rate_limit_error", "retry-after: 0"),
            error="rate_limited",
            words="Sorry.",
        ),
        "401": Case(None, refused(api, "401 No", "authentication_error"), error="auth"),
        "400": Case(None, refused(api, "400 No", "invalid_request_error"), error="bad_request", words="Sorry."),
        "413": Case(None, refused(api, "413 No", "request_too_large"), error="bad_request"),
    }


CASES = {name: {**framings(api), **troubles(api)} for name, api in APIS.items()}
EACH = [
    pytest.param(api, name, streamed, id=f"{api}-{name}-{'streamed' if streamed else 'whole'}")
    for api, cases in CASES.items()
    for name, case in cases.items()
    for streamed in (True, False)
    if (case.streamed if streamed else case.whole) is not None
]


class Habits(RawServer):
    """Answers a question that is the name of a case as the case says."""

    def __init__(self, api: str) -> None:
        super().__init__(self._reply)
        self._api, self._cases = APIS[api], CASES[api]

    async def _reply(self, wire: Wire, data: bytes) -> None:
        body = json.loads(data)
        turns = body["messages"] if "messages" in body else body["input"]
        case = self._cases.get(turns[-1]["content"])
        streamed = body.get("stream", False)
        reply = whole(self._api) if case is None else case.streamed if streamed else case.whole
        assert reply is not None
        await wire.send(b"".join(reply.packets()) if not reply.cut else b"", *(reply.packets() if reply.cut else ()))
        if reply.frame == "close":
            wire.close()


@functools.cache
def completions(api: str, *, streamed: bool) -> dict[str, Completion]:
    names = [name for name, one in CASES[api].items() if (one.streamed if streamed else one.whole) is not None]

    async def ask(url: str, name: str) -> Completion:
        model = ModelSpec("m", engine=APIS[api].engine, url=url, stream=streamed, max_tries=1)
        endpoint = open_openai_endpoint(Pool("p", model), any_server({}))
        try:
            request = Request(name, 0, "chat", "d", messages=(Message("user", name),))
            return await endpoint.generate(request, GenerationConfig())
        finally:
            await endpoint.close()

    async def ask_all(url: str) -> list[Completion]:
        return list(await asyncio.gather(*(ask(url, name) for name in names)))

    with Habits(api) as server:
        url = server.url.replace("/v1/chat/completions", APIS[api].path)
        return dict(zip(names, asyncio.run(ask_all(url)), strict=True))


@pytest.mark.parametrize(("api", "name", "streamed"), EACH)
def test_what_is_made_of_it(api, name, streamed):
    case, completion = CASES[api][name], completions(api, streamed=streamed)[name]
    if case.error:
        assert completion.error is not None
        assert completion.error.error_class == case.error
        assert case.words in completion.error.message
        return
    assert completion.error is None
    assert (completion.text, completion.finish_reason) == (case.text, "stop")
    assert completion.usage is not None
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (7, 5)
