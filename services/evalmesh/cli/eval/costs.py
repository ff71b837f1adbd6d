"""What a run costs: tokens, seconds and, where prices are given, money."""

from collections.abc import Iterator, Mapping, Sequence
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


def cost_lines(report: Mapping[str, Any], prices: Sequence[float]) -> Iterator[str]:
    """Tokens, seconds and money of each benchmark, of those whose tokens the endpoint has told."""
    for one in report["benchmarks"]:
        usage = one.get("usage") or {}
        read, written = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
        if not read and not written:
            continue
        price = f", {money(read, written, prices):,.4f}" if prices else ""
        yield f"{one['name']}: {read:,} input and {written:,} output tokens{price}"
