"""Habits of what stands in an answer: texts, thoughts, calls, refusals, reasons, counts."""

from typing import Any

from evalmesh.load.measure.records import Outcome
from tests.kit.habits.what import (
    PIECES,
    SPENT,
    TEXT,
    USAGE,
    Habit,
    Right,
    answer,
    both,
    chunk,
    json_of,
    sound,
    stream_of,
    text_chunks,
)

_TEXTS = text_chunks()
_STOP = chunk(finish="stop")
_THOUGHT = Right(reasoning="Hm.")
_CALLED = Right(text="", finish="tool_calls", calls=(("add", '{"a": 1}'),))
_NO_COUNTS = Right(tokens=None)


def _call(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "c1", "type": "function", **more,
                            "function": {"name": "add", "arguments": arguments}}]}  # fmt: skip


def _piece(arguments: str, **function: Any) -> dict[str, Any]:
    return chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": arguments, **function}}]})


def _usage(name: str, usage: Any, right: Right) -> Habit:
    return Habit(name, stream_of(*_TEXTS, _STOP, {"choices": [], "usage": usage}), json_of(answer(usage=usage)), right)


def _reason(reason: Any, finish: str) -> Habit:
    """Nothing behind the reason but the end of the HTTP message: it must be known as an end."""
    return Habit(f"the reason {reason!r}", stream_of(*_TEXTS, chunk(finish=reason), done=False),
                 json_of(answer(finish=reason, usage=None)), Right(finish=finish, tokens=None))  # fmt: skip


def _legacy(*texts: Any, finish: Any = None) -> list[dict[str, Any]]:
    return [{"choices": [{"index": 0, "text": text, "finish_reason": finish}]} for text in texts]


def _choice(index: Any, content: Any = None, finish: Any = None) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


_FILTERED = {"hate": {"filtered": False, "severity": "safe"}}
_AZURE_FIRST = {"choices": [], "created": 0, "id": "", "model": "", "object": "",
                "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _FILTERED}]}  # fmt: skip
_AZURE_LATE = {"id": "", "object": "", "choices": [
    {"finish_reason": None, "index": 0, "content_filter_offsets": {"check_offset": 3}, "content_filter_results": {}}
]}  # fmt: skip
_HIDDEN = {"type": "redacted_thinking", "data": "AAAA"}
_THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
_OTHERS = [one for pair in zip(_TEXTS, [_choice(1, "other"), _choice(1, " one"), _choice(1), _choice(1)], strict=True)
           for one in pair]  # fmt: skip

CONTENTS = (
    both("thoughts in reasoning_content", {"reasoning_content": "Hm."}, _THOUGHT),
    both("thoughts in reasoning", {"reasoning": "Hm."}, _THOUGHT),
    both("thoughts in thinking", {"thinking": "Hm."}, _THOUGHT),
    both("thoughts in a list", {"reasoning_content": [{"type": "text", "text": "Hm"}, "."]}, _THOUGHT),
    both("thoughts in an object", {"reasoning": {"content": "Hm."}}, _THOUGHT),
    both("thoughts in details", {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, _THOUGHT),
    both("thoughts said twice", {"reasoning": "Hm.", "reasoning_details": [{"text": "Hm."}]}, _THOUGHT),
    both("thoughts as a part of the content", {"content": [_THINKING]}, _THOUGHT,
         whole={"content": [_THINKING, {"type": "text", "text": TEXT}]}),
    both("thoughts as a plain part", {"content": [{"type": "thinking", "thinking": "Hm."}, _HIDDEN]}, _THOUGHT,
         whole={"content": [{"type": "reasoning", "text": "Hm."}, _HIDDEN, {"text": TEXT}]}),
    both("thoughts and nothing else", {"reasoning_content": "Hm."}, Right(text="", reasoning="Hm.")),
    Habit("inline thoughts stay in the text", stream_of(chunk("<think>Hm.</think>"), *_TEXTS, _STOP, USAGE),
          json_of(answer("<think>Hm.</think>" + TEXT)), Right(text="<think>Hm.</think>" + TEXT)),
    both("content in parts", {"content": [{"type": "text", "text": ""}]}, Right(),
         whole={"content": [{"type": "text", "text": TEXT[:4]}, {"type": "output_text", "text": TEXT[4:]}]}),
    both("content as one part", {"content": {"type": "text", "text": ""}}, Right(),
         whole={"content": {"type": "text", "text": TEXT}}),
    both("content as a list of texts", {"content": [""]}, Right(), whole={"content": [TEXT[:3], TEXT[3:]]}),
    Habit("halves of a character in two chunks", stream_of(chunk("\ud83d"), chunk("\ude00!"), _STOP, USAGE), None,
          Right(text="\U0001f600!")),
    Habit("half of a character", stream_of(chunk("a\ud83d"), _STOP, USAGE), json_of(answer("a\ud83d")),
          Right(text="a�")),
    Habit("the text of completions in a chat", stream_of(*_legacy(*PIECES), *_legacy("", finish="stop"), USAGE),
          json_of({"choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}], "usage": SPENT})),
    Habit("text and delta", stream_of(*[{**one, "choices": [{**one["choices"][0], "text": ""}]} for one in _TEXTS],
                                      _STOP, USAGE), json_of(answer(choice={"text": ""}))),
    Habit("the message again at the end", stream_of(*_TEXTS, {"choices": [
        {"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}]}, USAGE), None),
    Habit("messages for deltas", stream_of({"choices": [
        {"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}]}, USAGE),
          json_of({"choices": [{"index": 0, "delta": {"content": TEXT}, "finish_reason": "stop"}], "usage": SPENT})),
    Habit("a delta that is text", stream_of({"choices": [{"index": 0, "delta": TEXT}]}, _STOP, USAGE),
          json_of({"choices": [{"index": 0, "message": TEXT, "finish_reason": "stop"}], "usage": SPENT})),
    Habit("choices as an object", stream_of(*[{"choices": one["choices"][0]} for one in [*_TEXTS, _STOP]], USAGE),
          json_of({**answer(), "choices": answer()["choices"][0]})),
    Habit("nothing among the choices",
          stream_of(*[{"choices": [None, *one["choices"]]} for one in [*_TEXTS, _STOP]], USAGE),
          json_of({**answer(), "choices": [*answer()["choices"], None]})),
    Habit("an answer in a list", stream_of(*[[one] for one in [*_TEXTS, _STOP, USAGE]]), json_of([answer()])),
    Habit("NaN beside the text", stream_of(*[{**one, "choices": [{**one["choices"][0], "logprobs": float("nan")}]}
                                             for one in _TEXTS], _STOP, USAGE),
          json_of(answer(choice={"logprobs": {"content": [{"logprob": float("-inf")}]}}))),
    Habit("a number out of range beside the text", stream_of(b'data: {"created": 1e999, "choices": []}\n\n', *_TEXTS,
                                                             _STOP, USAGE),
          json_of(answer(choice={"avg_logprob": float("inf")}))),
    both("a role in capitals", {"role": "Assistant", "content": ""}, Right(), whole={"role": None}),
    both("a refusal", {"refusal": "No."}, Right(text="", refusal="No.")),
    both("a refusal as a part", {"content": [{"type": "refusal", "refusal": "No."}]}, Right(text="", refusal="No.")),
    Habit("a refusal in pieces", stream_of(chunk(delta={"refusal": "N"}), chunk(delta={"refusal": "o."}), _STOP, USAGE),
          None, Right(text="", refusal="No.")),
    both("a call", _call('{"a": 1}'), _CALLED, "tool_calls"),
    both("a call with an object", _call({"a": 1}), _CALLED, "tool_calls"),
    both("a call as an object", {"tool_calls": _call('{"a": 1}')["tool_calls"][0]}, _CALLED, "tool_calls"),
    both("a call with a number for an id", _call('{"a": 1}', id=7), _CALLED, "tool_calls"),
    both("a call with text for an index", _call('{"a": 1}', index="0"), _CALLED, "tool_calls"),
    both("a call without its box", {"tool_calls": [{"name": "add", "arguments": {"a": 1}}]}, _CALLED, "tool_calls"),
    both("a call of old", {"function_call": {"name": "add", "arguments": '{"a": 1}'}}, _CALLED, "function_call"),
    both("a call that ends as stop", _call('{"a": 1}'), Right(text="", calls=_CALLED.calls)),
    Habit("a call in pieces", stream_of(_piece("", name="add"), _piece('{"a"'), _piece(": 1}"),
                                        chunk(finish="tool_calls"), USAGE), None, _CALLED),
    Habit("two answers, interleaved", stream_of(*_OTHERS, _STOP, _choice(1, finish="length"), USAGE),
          json_of({**answer(), "choices": [{"index": 1, "message": {"content": "other one"}, "finish_reason": "length"},
                                           *answer()["choices"]]})),
    Habit("no index", stream_of(*[_choice(None, one) for one in PIECES], _choice(None, finish="stop"), USAGE),
          json_of(answer(choice={"index": None}))),
    Habit("an index in text", stream_of(*[_choice("0", one) for one in PIECES], _choice("0", finish="stop"), USAGE),
          json_of(answer(choice={"index": "0"}))),
    Habit("Azure's first and late events", stream_of(_AZURE_FIRST, *_TEXTS, _AZURE_LATE, _STOP, _AZURE_LATE, USAGE),
          json_of(answer(prompt_filter_results=[], choice={"content_filter_results": _FILTERED}))),
    Habit("no error, at length", sound({"choices": [], "error": {"code": 0, "message": ""}},
                                       last=chunk(finish="stop", error={"code": None, "message": "success"})),
          json_of(answer(error={"code": 0, "message": "", "details": []}))),
    Habit("news that are no error", sound({"message": "you are third in the queue"}, {"status": "running"}), None),
    Habit("a message beside the choices", sound({"choices": [], "message": {"content": "x"}}),
          json_of(answer() | {"message": {"content": "x"}, "code": 200, "msg": "ok"})),
    _reason("stop", "stop"),
    _reason("STOP", "stop"),
    _reason("eos_token", "stop"),
    _reason("end_turn", "stop"),
    _reason({"type": "stop", "matched": 2}, "stop"),
    _reason("length", "length"),
    _reason("MAX_TOKENS", "length"),
    _reason({"type": "length", "length": 16}, "length"),
    _reason("content_filter", "content_filter"),
    _reason("SAFETY", "content_filter"),
    _reason("tool_use", "tool_calls"),
    Habit("filtered to nothing", stream_of(chunk(""), chunk(finish="content_filter"), USAGE),
          json_of(answer("", "content_filter")), Right(text="", finish="content_filter", outcome=Outcome.EMPTY)),
    Habit("nothing said", stream_of(chunk(delta={"role": "assistant"}), _STOP, USAGE), json_of(answer(None)),
          Right(text="", outcome=Outcome.EMPTY)),
    _usage("counts as floats", {"prompt_tokens": 7.0, "completion_tokens": 5.0}, Right()),
    _usage("counts in text", {"prompt_tokens": "7", "completion_tokens": "5.0"}, Right()),
    _usage("counts in a list", [{"prompt_tokens": 7, "completion_tokens": 5}], Right()),
    _usage("counts under other names", {"input_tokens": 7, "output_tokens": 5}, Right()),
    _usage("counts of none", {"prompt_tokens": -1, "completion_tokens": 1e300, "total_tokens": None}, _NO_COUNTS),
    _usage("usage as text", "12 tokens", _NO_COUNTS),
    _usage("usage as a list", [7, 5], _NO_COUNTS),
    _usage("no usage", None, _NO_COUNTS),
    _usage("details of any type", {**SPENT, "prompt_tokens_details": [1], "completion_tokens_details": "x"}, Right()),
    Habit("counts with every chunk", stream_of(*[{**one, "usage": {**SPENT, "completion_tokens": 1 + at}}
                                                 for at, one in enumerate(_TEXTS)], _STOP, USAGE), None),
    Habit("counts with the reason", stream_of(*_TEXTS, {**_STOP, "usage": SPENT}), None),
)  # fmt: skip
