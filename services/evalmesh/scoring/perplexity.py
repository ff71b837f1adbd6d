"""How well a model predicts whole documents: bits per byte and per word, of each and of all together.

A corpus is worth its bits over its bytes (or words), so that a document counts by its length: the metrics are means of
the documents' rates, weighted by what a rate is per. A perplexity is 2 to the power of it; in the unit of nats the same
numbers are exp(-log-likelihood / words). Bits per byte compare models whatever their tokens are.
"""

import math
import re

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score

_BLANK = re.compile(r"\s+")


def score_perplexity(sample: Sample, completion: Completion) -> Score:
    """One continuation, the text; its words and bytes are counted in `sample.input`."""
    found = completion.continuations
    if len(found) != 1:
        return _unscored(completion, f"the completion has log probabilities of {len(found)} texts, expected 1")
    if not math.isfinite(found[0].logprob):
        return _unscored(completion, "a log probability is not a finite number")
    bits = -found[0].logprob / math.log(2)
    n_bytes, n_words = len(sample.input.encode()), count_words(sample.input)
    values = {"bits_per_byte": bits / n_bytes, "bits_per_word": bits / n_words, "bytes": n_bytes, "words": n_words}
    tokens = f" in {found[0].n_tokens} tokens" if found[0].n_tokens else ""
    return Score(
        completion.sample_id,
        completion.repeat,
        "scored",
        values={name: float(value) for name, value in values.items()},
        extractor="loglikelihood",
        explanation=f"{found[0].logprob:.4f} nats{tokens} for {n_words} words, {n_bytes} bytes",
    )


def count_words(text: str) -> int:
    """Pieces between runs of blanks; a run at an end parts an empty piece off, as in the field's other tools."""
    return len(_BLANK.split(text))


def _unscored(completion: Completion, reason: str) -> Score:
    return Score(completion.sample_id, completion.repeat, "unscored", reason=reason)
