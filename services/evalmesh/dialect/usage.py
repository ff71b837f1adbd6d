"""Token counts: five servers' names for the same, and any type a number may come in."""

from collections.abc import Callable
from typing import NamedTuple

from evalmesh.dialect.loose import count_of, mapping_of
from evalmesh.domain.completion import Usage


class Counts(NamedTuple):
    """What a server says it read and wrote; `None` where it does not."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    total: int | None = None


_PLAIN = ("prompt_tokens", "completion_tokens", "total_tokens")


def read_usage(value: object) -> Counts | None:
    """Of chat, completions, embeddings or responses; `None` where there are no counts at all."""
    found = value if value.__class__ is dict else mapping_of(value)
    if not found:
        return None
    get = found.get
    read, written, total = map(get, _PLAIN)
    if type(read) is type(written) is type(total) is int and len(found) == len(_PLAIN):
        # All there is; some servers say it with every token.
        return Counts(read, written, None, None, total)
    return Counts(
        count_of(get("prompt_tokens", get("input_tokens"))),
        count_of(get("completion_tokens", get("output_tokens"))),
        _reasoning(get),
        _cached(get),
        count_of(total),
    )


def _reasoning(get: Callable[[str], object]) -> int | None:
    said = get("completion_tokens_details") or get("output_tokens_details")
    count = count_of(mapping_of(said).get("reasoning_tokens")) if said else None
    return count_of(get("reasoning_tokens")) if count is None else count  # SGLang's place


def _cached(get: Callable[[str], object]) -> int | None:
    sent = get("prompt_tokens_details") or get("input_tokens_details")
    count = count_of(mapping_of(sent).get("cached_tokens")) if sent else None
    if count is None:
        count = count_of(get("prompt_cache_hit_tokens"))  # DeepSeek's place
    return count_of(get("cached_tokens")) if count is None else count  # Moonshot's place


def as_domain(counts: Counts | None) -> Usage | None:
    """As completions keep it."""
    return None if counts is None else Usage(counts.input, counts.output, counts.reasoning, counts.cached)
