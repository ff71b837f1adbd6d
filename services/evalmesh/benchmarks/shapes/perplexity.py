"""Whole texts, as long as they are: the model writes nothing; how well it predicts them is what counts."""

from collections.abc import Callable
from dataclasses import dataclass

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.perplexity import score_perplexity


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Texts in windows of the model's context (`domain.request.Request.rolling`); there is no prompt and no example."""

    name: str = "perplexity"
    kinds: tuple[RequestKind, ...] = ("loglikelihood",)
    template: str = ""
    placeholders: tuple[str, ...] = ()
    prepare: Callable[[str], str] = str
    """Makes of the text as published what is predicted; words and bytes are counted in the text as published."""
    metrics: tuple[MetricSpec, ...] = (
        MetricSpec("bits_per_byte", "bits_per_byte", "amount", higher_is_better=False, weight="bytes"),
        MetricSpec("byte_perplexity", "bits_per_byte", "perplexity", higher_is_better=False, weight="bytes"),
        MetricSpec("word_perplexity", "bits_per_word", "perplexity", higher_is_better=False, weight="words"),
    )

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:  # noqa: ARG002  (nothing comes before)
        """The text, alone."""
        return Prompt(continuations=(self.prepare(sample.input),), rolling=True)

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """A division."""
        return score_perplexity(sample, completion)

    def score(self, sample: Sample, completion: Completion) -> Score:
        """The same as `score_fast`."""
        return score_perplexity(sample, completion)
