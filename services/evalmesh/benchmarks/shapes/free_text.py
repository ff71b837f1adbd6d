"""Questions that are answered in free text, which is compared with reference answers by the words in common."""

from dataclasses import dataclass

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.prompting import GENERATING, fill, lay_out
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.text_overlap import is_quick, score_overlap


@dataclass(frozen=True, slots=True)
class FreeText:
    """Template placeholder: `{question}`. A sample without a reference is asked and stays unscored."""

    name: str = "free-text"
    kinds: tuple[RequestKind, ...] = GENERATING
    template: str = "{question}"
    placeholders: tuple[str, ...] = ("question",)
    metrics: tuple[MetricSpec, ...] = (
        MetricSpec("f1", "f1"),
        MetricSpec("exact_match", "exact_match"),
        MetricSpec("contains", "contains"),
        MetricSpec("rouge_l", "rouge_l"),
    )

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""

        def ask(one: Sample) -> str:
            return fill(settings.template, {"question": one.input})

        return lay_out(sample, settings, ask, lambda shot: "".join(shot.target[:1]))

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """`None` for texts of pages."""
        return score_overlap(sample, completion) if is_quick(sample, completion) else None

    def score(self, sample: Sample, completion: Completion) -> Score:
        """However long the texts are."""
        return score_overlap(sample, completion)
