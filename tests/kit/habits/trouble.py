"""Habits of servers that have no answer, and of gateways in front of them."""

import json
from typing import Any

from evalmesh.load.measure.records import Outcome
from tests.kit.habits.what import (
    JSON,
    Habit,
    Reply,
    Right,
    answer,
    chunk,
    cut,
    failed,
    json_of,
    stream_of,
    text_chunks,
)

_TEXTS = text_chunks()
_REPORTED = "out of memory"


def _refused(name: str, status: str, body: Any, error: str, words: str, *headers: str) -> Habit:
    """A status that is no success; whether a stream was asked for makes no difference."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/plain" if isinstance(body, bytes) else JSON
    reply = Reply(data, kind, status, headers, frame="length")
    return Habit(name, reply, reply, failed(error, Outcome.HTTP, words))


def _filtered(name: str, body: Any) -> Habit:
    """A filter of the prompt: an answer that was held back to an evaluation, an error to whoever measures a load."""
    reply = Reply(json.dumps(body).encode(), JSON, "400 Bad Request", frame="length")
    right = Right(text="", finish="content_filter", tokens=None, outcome=Outcome.HTTP)
    return Habit(name, reply, reply, right)


def _late(name: str, value: Any, error: str = "server", words: str = _REPORTED) -> Habit:
    """An error in place of an answer of status 200, or in the middle of one."""
    event = value if isinstance(value, bytes) else f"data: {json.dumps(value)}\n\n".encode()
    whole = None if isinstance(value, bytes) else json_of(value)
    return Habit(name, stream_of(*_TEXTS[:2], event, done=False), whole, failed(error, Outcome.ERROR_EVENT, words))


def _bad(name: str, body: bytes, words: str = "", kind: str = "text/html") -> Habit:
    reply = Reply(body, kind, frame="length")
    return Habit(name, reply, reply, failed("malformed", Outcome.MALFORMED, words))


def _broken_off(reason: str) -> Habit:
    right = cut(failed("truncated", Outcome.TRUNCATED, reason))
    return Habit(
        f"broken off: {reason}", stream_of(*_TEXTS, chunk(finish=reason)), json_of(answer(finish=reason)), right
    )


_OPENAI = {"error": {"message": _REPORTED, "type": "server_error", "param": None, "code": None}}
_EXTRA = {
    "object": "error",
    "type": "invalid_request_error",
    "code": None,
    "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "not permitted"}]},
}
_AZURE = {
    "error": {
        "code": "content_filter",
        "message": "The prompt was filtered.",
        "param": "prompt",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}
_VLLM = {"object": "error", "message": "too long: 4600 tokens", "type": "BadRequestError", "param": None, "code": 400}
_LLAMA = {"error": {"code": 400, "message": "the request exceeds the context", "type": "exceed_context_size_error"}}
_TGI = {"error": "Input validation error: too long", "error_type": "validation"}
_ANTHROPIC = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

TROUBLE = (
    _refused("OpenAI: a bad parameter", "400 Bad Request",
             {"error": {"message": "Unsupported parameter: 'max_tokens'", "type": "invalid_request_error",
                        "param": "max_tokens", "code": "unsupported_parameter"}}, "bad_request", "max_tokens"),
    _refused("OpenAI: no quota", "429 Too Many Requests",
             {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, "rate_limited", "quota"),
    _refused("vLLM: too long", "400 Bad Request", _VLLM, "bad_request", "4600 tokens"),
    _refused("SGLang: too long", "400 Bad Request", {"error": _VLLM}, "bad_request", "4600 tokens"),
    _refused("TGI: too long", "422 Unprocessable Entity", _TGI, "bad_request", "too long"),
    _refused("llama.cpp: too long", "400 Bad Request", _LLAMA, "bad_request", "exceeds the context"),
    _filtered("Azure: filtered", _AZURE),
    _filtered("DashScope: filtered", {"error": {"code": "data_inspection_failed", "message": "inappropriate content"}}),
    _filtered("LiteLLM: filtered", {"error": {"code": "400", "message": "litellm.ContentPolicyViolationError: no"}}),
    _refused("Mistral: extra keys", "422 Unprocessable Entity", _EXTRA, "bad_request", "not permitted"),
    _refused("FastAPI: not found", "404 Not Found", {"detail": "Not Found"}, "bad_request", "Not Found"),
    _refused("FastAPI: a list", "422 Unprocessable Entity", {"detail": [{"loc": ["body"], "msg": "Field required"}]},
             "bad_request", "Field required"),
    _refused("Anthropic: overloaded", "529 Overloaded", _ANTHROPIC, "server", "Overloaded"),
    _refused("AWS: a message alone", "403 Forbidden", {"Message": "no such key"}, "auth", "no such key"),
    _refused("nginx: a page", "502 Bad Gateway", b"<html><h1>502 Bad Gateway</h1></html>", "server", "502"),
    _refused("a status and no word", "500 Internal Server Error", b"", "server", ""),
    _refused("slow down, in seconds", "429 Too Many Requests", _OPENAI, "rate_limited", _REPORTED, "Retry-After: 1"),
    _refused("slow down, by date", "503 Service Unavailable", _OPENAI, "server", _REPORTED,
             "Retry-After: Fri, 01 Jan 2021 00:00:00 GMT"),
    _refused("slow down, whenever", "429 Too Many Requests", _OPENAI, "rate_limited", _REPORTED, "Retry-After: soon"),
    _refused("another address", "307 Temporary Redirect", b"", "bad_request", "http://other.invalid/v1",
             "Location: http://other.invalid/v1"),
    _refused("another address for good", "308 Permanent Redirect", b"moved", "bad_request", "/v2", "Location: /v2"),
    _late("an error in OpenAI's form", _OPENAI),
    _late("an error with its status", {"error": {"message": _REPORTED, "code": 500}}),
    _late("an error for a key", {"error": {"message": "who are you?", "code": "401"}}, "auth", "who are you?"),
    _late("an error for load", {"error": {"message": "slow down", "code": 429.0}}, "rate_limited", "slow down"),
    _late("an error as text", {"error": _REPORTED}),
    _late("an error of TGI", {"error": _REPORTED, "error_type": "generation"}),
    _late("an error of vLLM", {"object": "error", "message": _REPORTED, "code": 500}),
    _late("an error of Anthropic", {"type": "error", "error": {"type": "x", "message": _REPORTED}}),
    _late("an error of FastAPI", {"detail": _REPORTED}),
    _late("an error by its number", {"code": 503, "message": _REPORTED}),
    _late("an error beside empty choices", {"choices": [], "error": {"message": _REPORTED}}),
    _late("an error beside a choice", {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
                                       "error": {"message": _REPORTED, "code": "server_error"}}),
    _late("an error in another error", {"error": {"error": {"message": _REPORTED}}}),
    _late("an error by the name of its event", b'event: error\ndata: {"error": "out of memory"}\n\n'),
    _late("an error of old llama.cpp", b'error: {"code": 500, "message": "out of memory"}\n\n'),
    _broken_off("abort"),
    _broken_off("error"),
    _broken_off("insufficient_system_resource"),
    _bad("a page to sign in", b"<!doctype html><html>Sign in</html>", "Sign in"),
    _bad("plain words", b"upstream connect error or disconnect", "upstream connect", "text/plain"),
    _bad("no choices", b'{"id": "c", "choices": []}', "choices", JSON),
    _bad("another API", b'{"embedding": [1, 2]}', "choices", JSON),
    _bad("only null", b"null", "", JSON),
    _bad("bytes that are no UTF-8", json.dumps(answer("DATA")).encode().replace(b"DATA", b"\xff\xfe"), "", JSON),
    Habit("an event that is no JSON", stream_of(*_TEXTS[:2], b"data: {oops}\n\n"), None,
          failed("malformed", Outcome.MALFORMED, "oops")),
    Habit("content that is a number", stream_of(chunk(7), chunk(finish="stop")), json_of(answer(7)),
          failed("malformed", Outcome.MALFORMED, "7")),
    Habit("truncated after thoughts", stream_of(chunk(delta={"reasoning_content": "Hm"}), done=False), None,
          cut(failed("truncated", Outcome.TRUNCATED))),
    Habit("cut at the limit", stream_of(*_TEXTS, chunk(finish="length"), done=False), json_of(answer(finish="length")),
          Right(finish="length", tokens=None), Right(finish="length")),
)  # fmt: skip
