"""Rows of published traces are understood in each of their forms."""

from typing import Any

import pytest

from evalmesh.load.arrivals.trace import TraceRow, parse


def test_azure() -> None:
    first = parse({"TIMESTAMP": "2023-11-16 18:15:46.6805900", "ContextTokens": "374", "GeneratedTokens": "44"})
    second = parse({"TIMESTAMP": "2023-11-16 18:15:50.9951690", "ContextTokens": "396", "GeneratedTokens": "109"})
    assert (first.input_tokens, first.output_tokens) == (374, 44)
    assert second.at_s - first.at_s == pytest.approx(4.314579, abs=1e-5)


def test_azure_of_2024_has_a_time_zone() -> None:
    row = {"TIMESTAMP": "2024-05-10 00:00:00.009930+00:00", "ContextTokens": "2162", "GeneratedTokens": "5"}
    assert parse(row).at_s == pytest.approx(1715299200.00993, abs=1e-5)


def test_mooncake_counts_milliseconds() -> None:
    row = {"timestamp": 2500, "input_length": 1100, "output_length": 7, "hash_ids": [3, 9, 12]}
    assert parse(row) == TraceRow(2.5, 1100, 7, (3, 9, 12))


def test_burstgpt() -> None:
    row = {"Timestamp": "5.0", "Model": "ChatGPT", "Request tokens": "472", "Response tokens": "18"}
    assert parse(row) == TraceRow(5.0, 472, 18)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"timestamp": 1.5, "prompt": "p", "max_tokens": 4}, TraceRow(1.5, output_tokens=4, prompt="p")),
        ({"timestamp": "1.5", "input_tokens": 8, "output_tokens": 2}, TraceRow(1.5, 8, 2)),
        ({"timestamp": 0, "body": {"a": 1}, "completion_tokens": 3}, TraceRow(0, output_tokens=3, body={"a": 1})),
        ({"timestamp": "1970-01-01T00:00:02Z", "prompt": "p"}, TraceRow(2.0, prompt="p")),
        (
            {"timestamp": 0, "messages": [{"role": "user", "content": "p"}]},
            TraceRow(0, messages=({"role": "user", "content": "p"},)),
        ),
    ],
)
def test_plain(row: dict[str, Any], found: TraceRow) -> None:
    assert parse(row) == found


def test_the_unit_of_time_can_be_said() -> None:
    assert parse({"timestamp": 2500, "prompt": "p"}, 0.001).at_s == 2.5


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({}, "no timestamp"),
        ({"timestamp": 1}, "none of body, messages, prompt"),
        ({"timestamp": "yesterday", "prompt": "p"}, "neither a number nor a date"),
        ({"timestamp": None, "prompt": "p"}, "neither a number nor a date"),
        ({"timestamp": 1, "input_length": -1, "output_length": 1}, "input_length is -1"),
        ({"timestamp": 1, "input_length": 1.5, "output_length": 1}, "input_length is 1.5"),
        ({"timestamp": 1, "input_length": "x", "output_length": 1}, "input_length is 'x'"),
        ({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": "12"}, "no list"),
        ({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}, "something else"),
        ({"TIMESTAMP": "2023-11-16", "ContextTokens": "nan", "GeneratedTokens": "1"}, "ContextTokens is 'nan'"),
    ],
)
def test_what_is_wrong_is_said(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(row)
