"""What the requests of a run come to, before any is sent."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BenchmarkEstimate:
    """One benchmark's part. Counts of characters are exact; in tokens only the model's tokenizer knows them."""

    benchmark: str
    n_samples: int = 0
    n_malformed: int = 0
    n_requests: int = 0
    """Samples times repeats."""
    prompt_chars: int = 0
    """Of all requests together."""
    longest_chars: int = 0
    """Of one prompt."""
    max_tokens: int | None = None
    """Of one answer; `None`: the endpoint decides."""
