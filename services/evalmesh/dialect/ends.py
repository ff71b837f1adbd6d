"""How answers end: the reasons servers give, in our words."""

from collections.abc import Mapping

from evalmesh.dialect.loose import mapping_of
from evalmesh.domain.completion import FinishReason

DONE = b"[DONE]"
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_token": "stop",
    "stop_sequence": "stop",
    "stop_str": "stop",
    "end": "stop",
    "end_turn": "stop",
    "end_of_text": "stop",
    "complete": "stop",
    "completed": "stop",
    "finished": "stop",
    "normal": "stop",
    "length": "length",
    "max_length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_completion_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "repetition": "length",
    "repetition_truncation": "length",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "refusal": "content_filter",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "pause_turn": "unknown",
    "unknown": "unknown",
}
BROKEN_OFF = frozenset(
    {"abort", "aborted", "cancelled", "canceled", "error", "network_error", "insufficient_system_resource"}
)
"""Reasons of servers that were stopped in the middle (vLLM, SGLang, DeepSeek, Zhipu)."""


def reason_of(value: object) -> str:
    """The reason in small letters; empty for none, and for a word nobody knows, which ends nothing."""
    if not isinstance(value, str):
        value = mapping_of(value).get("type")  # SGLang's and TGI's own form: {"type": "stop", "matched": ...}
        if not isinstance(value, str):
            return ""
    reason = value.strip().lower()
    return reason if reason in _FINISH or reason in BROKEN_OFF else ""


def finish_of(reason: str) -> FinishReason:
    """What `reason_of` found, as a completion has it."""
    return _FINISH.get(reason, "unknown")
