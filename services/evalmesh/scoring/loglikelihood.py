"""Scores of multiple choice by log-likelihood.

`accuracy`: the option whose continuation has the highest sum of log probabilities is the answer. `acc_norm`: the
highest sum per character of the option's text, which takes away the advantage of short options; `acc_bytes`: per byte
of it in UTF-8; `acc_norm_tokens`: per token of the continuation. The first two are what lm-evaluation-harness calls so
(its blog of 2021 says bytes, its code counts characters; they differ outside ASCII). Of equal options the first one
counts as chosen. Sources: Gao, "Multiple Choice Normalization in LM Evaluation" (EleutherAI blog, 2021); PMI: Holtzman
et al., "Surface Form Competition", arXiv:2104.08315.
"""

import math
from collections.abc import Sequence
from string import ascii_uppercase

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score


def score_loglikelihood(sample: Sample, completion: Completion) -> Score:
    """One continuation per option, in their order."""
    found = completion.continuations
    n = len(sample.choices)
    if problem := _problem(completion, n):
        return _unscored(completion, problem)
    if not all(one.n_tokens for one in found):
        return _unscored(completion, "the completion does not say how many tokens each continuation has")
    sums = [one.logprob for one in found]
    texts = _judged(sample, completion)
    chosen = {
        "accuracy": _best(sums),
        "acc_norm": _best([total / max(1, len(c)) for total, c in zip(sums, texts, strict=True)]),
        "acc_bytes": _best([total / max(1, len(c.encode())) for total, c in zip(sums, texts, strict=True)]),
        "acc_norm_tokens": _best([one.logprob / one.n_tokens for one in found]),
    }
    return _scored(sample, completion, chosen, sums)


def score_likeliest(sample: Sample, completion: Completion) -> Score:
    """`accuracy` alone: one continuation per option, whose lengths say nothing about the options."""
    if problem := _problem(completion, len(sample.choices)):
        return _unscored(completion, problem)
    sums = [one.logprob for one in completion.continuations]
    return _scored(sample, completion, {"accuracy": _best(sums)}, sums)


def score_pmi(sample: Sample, completion: Completion) -> Score:
    """Two continuations per option: first all after the question, then all after neutral words."""
    n = len(sample.choices)
    if problem := _problem(completion, 2 * n):
        return _unscored(completion, problem)
    sums = [one.logprob for one in completion.continuations]
    gains = [asked - neutral for asked, neutral in zip(sums[:n], sums[n:], strict=True)]
    return _scored(sample, completion, {"accuracy": _best(gains)}, gains)


def _judged(sample: Sample, completion: Completion) -> Sequence[str]:
    """The options' texts, or their letters: a blank and a letter are two bytes."""
    by_letter = all(one.n_bytes == len(" A") for one in completion.continuations)
    return ascii_uppercase[: len(sample.choices)] if by_letter else sample.choices


def _problem(completion: Completion, expected: int) -> str:
    found = completion.continuations
    if len(found) != expected:
        return f"the completion has log probabilities of {len(found)} continuations, expected {expected}"
    if not all(math.isfinite(one.logprob) for one in found):
        return "a log probability is not a finite number"
    return ""


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _scored(sample: Sample, completion: Completion, chosen: dict[str, int], sums: Sequence[float]) -> Score:
    letters = ascii_uppercase[: len(sums)]
    return Score(
        sample_id=completion.sample_id,
        repeat=completion.repeat,
        state="scored",
        values={name: float(letters[place] in sample.target) for name, place in chosen.items()},
        answer=letters[chosen["accuracy"]],
        extractor="loglikelihood",
        explanation=", ".join(f"{letter}: {total:.4f}" for letter, total in zip(letters, sums, strict=True)),
    )


def _unscored(completion: Completion, reason: str) -> Score:
    return Score(completion.sample_id, completion.repeat, "unscored", reason=reason)
