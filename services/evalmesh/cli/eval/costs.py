"""What a run costs: tokens, seconds and, where prices are given, money."""

from collections.abc import Mapping, Sequence
from typing import Any

CHARS_PER_TOKEN = 4
"""A rule of thumb for English; other scripts have fewer characters to a token."""
_PER = 1_000_000


def tokens_of(chars: int) -> int:
    """Tokens that a text of so many characters has, more or less."""
    return -(-chars // CHARS_PER_TOKEN)


def money(input_tokens: int, output_tokens: int, prices: Sequence[float]) -> float:
    """In the currency of the prices, which are (input, output) per million tokens."""
    return (input_tokens * prices[0] + output_tokens * prices[1]) / _PER


def cost_line(report: Mapping[str, Any], prices: Sequence[float]) -> str:
    """Tokens, seconds and money of a run, where the endpoint has told of tokens; else empty."""
    usages = [one.get("usage") or {} for one in report["benchmarks"]]
    read, written = (int(sum(one.get(name) or 0 for one in usages)) for name in ("input_tokens", "output_tokens"))
    if not read and not written:
        return ""
    took_s = report["run"]["duration_s"]
    time = f" in {took_s:,.1f} s" if took_s else ""
    price = f", {money(read, written, prices):,.4f} at {prices[0]:g} and {prices[1]:g} a million" if prices else ""
    return f"tokens   {read:,} input and {written:,} output{time}{price}"
