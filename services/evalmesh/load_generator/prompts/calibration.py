"""Lengths without a tokenizer: two probes against the server tell what a word costs, and what stands around it."""

from collections.abc import Sequence

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.load_generator.prompts.draws import Draws
from evalmesh.load_generator.prompts.words import FIRST, WORDS
from evalmesh.load_generator.prompts.writer import Words

_PROBE_WORDS = (16, 272)
_ROUNDING = 1e-3
_MADE = frozenset(
    {
        "random",
        "random_vl",
        "random_multi_turn",
        "random_embedding",
        "speed_benchmark",
        "speed_benchmark_long",
        "trace",
        "workload_trace",
    }
)
"""Data sets whose texts we make."""


def needs_calibration(spec: LoadTestSpec) -> bool:
    """Whether prompts are to be made to a length and only the server can say what a word counts."""
    prompts = spec.prompts
    made = prompts.dataset in _MADE and not prompts.prompt
    return made and not prompts.tokenizer_digest and spec.target.api != "rerank"


def calibration_prompts(seed: int = 0) -> list[tuple[str, int]]:
    """Texts to send as one user's message, each with its number of words; the server's usage goes to `calibrate`."""
    words, draws = Words(FIRST, WORDS), Draws(seed, "calibration")
    return [(words.pick(draws.words(number, count)), count) for number, count in enumerate(_PROBE_WORDS)]


def calibrate(lengths: Sequence[int], usages: Sequence[int]) -> tuple[float, int]:
    """(tokens per word, tokens around them) by least squares; (0, 0) where the usages make no sense.

    `lengths`: words of each probe. `usages`: prompt tokens the server counted for it.
    """
    if len(lengths) != len(usages) or len(set(lengths)) < 2:
        raise InvalidInput(f"{len(lengths)} lengths and {len(usages)} usages cannot be compared; give two of each.")
    count = len(lengths)
    mean_length, mean_usage = sum(lengths) / count, sum(usages) / count
    spread = sum((length - mean_length) ** 2 for length in lengths)
    products = ((length - mean_length) * (usage - mean_usage) for length, usage in zip(lengths, usages, strict=True))
    scale = sum(products) / spread
    if scale <= 0:  # a server that does not count
        return 0.0, 0
    if abs(scale - round(scale)) < _ROUNDING:
        scale = float(round(scale))
    return scale, max(0, round(mean_usage - scale * mean_length))
