"""Free texts compared with references by n-grams: BLEU, ROUGE and chrF, by the libraries that papers use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.free_text import FreeText
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.ngrams import PACKAGES, SacreBleu, score_ngrams
from evalmesh.scoring.reducers import Reducer

_ASKS = FreeText()


@dataclass(frozen=True, slots=True)
class Overlap:
    """Template placeholder: `{question}`. Asks as `FreeText` does; needs the extra `overlap`."""

    name: str = "overlap"
    kinds: tuple[RequestKind, ...] = _ASKS.kinds
    template: str = _ASKS.template
    placeholders: tuple[str, ...] = _ASKS.placeholders
    packages: Mapping[str, str] = field(default_factory=lambda: PACKAGES)
    extra: str = "overlap"
    metrics: tuple[MetricSpec, ...] = (
        MetricSpec("rouge_l", "rouge_l"),
        MetricSpec("rouge1", "rouge1"),
        MetricSpec("rouge2", "rouge2"),
        MetricSpec("bleu", "bleu"),
        MetricSpec("chrf", "chrf"),
    )
    reducers: tuple[Reducer, ...] = (SacreBleu(),)

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""
        return _ASKS.render(sample, settings)

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:  # noqa: ARG002  (never quick)
        """`None`: the libraries take a second to load."""
        return None

    def score(self, sample: Sample, completion: Completion) -> Score:
        """By the libraries."""
        return score_ngrams(sample, completion)
