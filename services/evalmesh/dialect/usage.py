"""Token counts: five servers' names for the same, and any type a number may come in."""

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


def read_usage(value: object) -> Counts | None:
    """Of chat, completions, embeddings or responses; `None` where there are no counts at all."""
    found = value if value.__class__ is dict else mapping_of(value)
    if not found:
        return None
    get = found.get
    # One look per name, and none into what is not there: some servers send all of this with every token.
    sent = get("prompt_tokens_details") or get("input_tokens_details")
    said = get("completion_tokens_details") or get("output_tokens_details")
    cached = count_of(mapping_of(sent).get("cached_tokens")) if sent else None
    if cached is None:
        # DeepSeek's and Moonshot's places.
        cached = count_of(get("prompt_cache_hit_tokens", get("cached_tokens")))
    reasoning = count_of(mapping_of(said).get("reasoning_tokens")) if said else None
    if reasoning is None:
        reasoning = count_of(get("reasoning_tokens"))  # SGLang's place
    return Counts(
        count_of(get("prompt_tokens", get("input_tokens"))),
        count_of(get("completion_tokens", get("output_tokens"))),
        reasoning,
        cached,
        count_of(get("total_tokens")),
    )


def as_domain(counts: Counts | None) -> Usage | None:
    """As completions keep it."""
    return None if counts is None else Usage(counts.input, counts.output, counts.reasoning, counts.cached)
