"""What given texts are worth, in the forms of three servers, and which tokens belong to a continuation."""

import json

import pytest

from evalmesh.dialect.answer import Answer, parse_answer
from evalmesh.dialect.logprobs import ScoredText
from evalmesh.dialect.prompt_scores import (
    echoed,
    judge,
    judge_end,
    parse_chat_scores,
    parse_generated,
    prompt_logprobs,
)
from evalmesh.domain.completion import ContinuationScore

TOKENS = ["It", " is", " very", " good"]
VALUES = [None, -1.0, -2.0, -0.25]
BEST = [None, -0.5, -2.0, -0.25]
EXPECTED = ContinuationScore(-2.25, 2, 10, is_greedy=True)


def echo() -> ScoredText | None:
    tops = [None, {" was": -0.5}, {" very": -2.0}, {" good": -0.25}]
    logprobs = {"tokens": TOKENS, "token_logprobs": VALUES, "top_logprobs": tops}
    answer = parse_answer(json.dumps({"choices": [{"text": "x", "logprobs": logprobs}]}).encode())
    assert isinstance(answer, Answer)
    return echoed(answer.choices[0])


def places() -> list[object]:
    found: list[object] = [None]
    for number, (token, value, best) in enumerate(zip(TOKENS[1:], VALUES[1:], BEST[1:], strict=True)):
        own = {"logprob": value, "rank": 1 if value == best else 9, "decoded_token": token}
        other = {"logprob": best, "rank": 1, "decoded_token": "?"}
        found.append({str(number): own} if value == best else {str(number): own, "99": other})
    first = {"7": {"logprob": None, "rank": None, "decoded_token": "It"}}
    found[0] = None if number == 0 else first
    return found


def vllm() -> ScoredText | None:
    answer = parse_answer(json.dumps({"choices": [{"text": "x", "prompt_logprobs": places()}]}).encode())
    assert isinstance(answer, Answer)
    return prompt_logprobs(answer.choices[0])


def chat() -> ScoredText | None:
    body = {"choices": [{"message": {"content": "x"}}], "prompt_logprobs": places()}
    answer = parse_chat_scores(json.dumps(body).encode())
    assert isinstance(answer, Answer)
    return prompt_logprobs(answer.choices[0])


def sglang() -> ScoredText | None:
    entries = [[value, 1, token] for value, token in zip(VALUES, TOKENS, strict=True)]
    tops = [None, *([[best, 2, "?"]] for best in BEST[1:])]
    meta = {"prompt_tokens": 4, "completion_tokens": 1, "input_token_logprobs": entries, "input_top_logprobs": tops}
    answer = parse_generated(json.dumps([{"text": "x", "meta_info": meta}]).encode())
    assert isinstance(answer, Answer)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 1)
    return answer.scored[0]


FORMS = [echo, sglang, vllm, chat]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form):
    found = form()
    assert judge("It is", " very good", found) == EXPECTED
    assert judge("It", " is very good", found) == ContinuationScore(-3.25, 3, 13, is_greedy=False)


@pytest.mark.parametrize(
    ("context", "continuation", "tokens"),
    [
        ("It is ", "very good", 2),  # the blank belongs to the continuation, as lm-evaluation-harness has it
        ("It is\n", "very good", None),  # which is not what was scored
        ("It is ve", "ry good", 2),  # a token across the border belongs to it as well
    ],
)
def test_where_a_continuation_begins(context, continuation, tokens):
    judged = judge(context, continuation, ScoredText(TOKENS, VALUES, [True] * 4))
    assert (judged.n_tokens if isinstance(judged, ContinuationScore) else None) == tokens


@pytest.mark.parametrize(
    ("tokens", "count"),
    [
        (["答", "案", "是", "好"], 1),
        (["<s>", "答案", "\ufffd", "\ufffd", "好"], 1),  # parts of one character
        (["<s>", "答案", "是", "\ufffd", "\ufffd"], 2),
        (["<s>", "答案", "\ufffd", "\ufffd", "\ufffd"], 3),  # a part may belong to either side
        (["", "答案", "是", "\ufffd", "", "。"], 2),
        (["\ufffd", "", "", "", "", "案", "", "", "是", "", "", "好", "。"], 3),  # vLLM's, byte by byte
        (["", "", "", "案", "", "是", "", "", "好"], 3),
        (["<s>", "答", "", "案", "是", "", "好"], 2),
    ],
)
def test_tokens_that_are_parts_of_characters_are_placed(tokens, count):
    judged = judge("答案是", "好", ScoredText(tokens, [None, *[-1.0] * (len(tokens) - 1)], [True] * len(tokens)))
    assert isinstance(judged, ContinuationScore), judged
    assert judged.n_tokens == count


def test_a_template_around_the_texts_leaves_the_continuation_at_the_end():
    found = ScoredText(["<u>", "Hi", "<a>", "Good", " day"], [None, -1, -1, -2, -3], [True] * 5)
    assert judge_end(" Good day", found) == ContinuationScore(-5, 2, 9, is_greedy=True)
    assert isinstance(judge_end("Bad day", found), str)


def test_a_whole_text_needs_something_before_it():
    with_start = ScoredText(["<s>", "It", " is"], [None, -1, -2], [True] * 3)
    assert judge("", "It is", with_start) == ContinuationScore(-3, 2, 5, is_greedy=True)
    assert "prefix=" in str(judge("", "It is", ScoredText(["It", " is"], [None, -2], [True] * 2)))


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"[{}]", b"<", b'[{"text": "x"}]', b'{"error": {"message": "no such call"}}']
)
def test_what_sglang_does_not_say_is_no_score(body):
    assert not isinstance(parse_generated(body), Answer)


@pytest.mark.parametrize(
    "given", [None, [], "x", [{"1": {"logprob": None}}], [{"1": {"decoded_token": "It"}}], [{"1": 5}]]
)
def test_odd_prompt_logprobs_are_none_or_worth_nothing(given):
    body = json.dumps({"choices": [{"text": "x", "prompt_logprobs": given}]}).encode()
    answer = parse_answer(body)
    assert isinstance(answer, Answer)
    assert isinstance(judge("It", " is", prompt_logprobs(answer.choices[0])), str)
