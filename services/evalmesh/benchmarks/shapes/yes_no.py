"""Questions that are answered by yes or no."""

from dataclasses import dataclass

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.prompting import GENERATING, fill, lay_out
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.yes_no import score_yes_no

TEMPLATE = "{question}\n\nThe last line of your reply must be 'ANSWER: yes' or 'ANSWER: no'."


@dataclass(frozen=True, slots=True)
class YesNo:
    """Template placeholder: `{question}`. A sample's target is `yes` or `no`."""

    name: str = "yes-no"
    kinds: tuple[RequestKind, ...] = GENERATING
    template: str = TEMPLATE
    closing: str = "ANSWER: {answer}"
    """A solved example; `{answer}` is its target."""
    placeholders: tuple[str, ...] = ("question",)
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = (MetricSpec("accuracy", "accuracy"),)

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""

        def ask(one: Sample) -> str:
            return fill(settings.template, {"question": one.input})

        return lay_out(sample, settings, ask, lambda shot: fill(self.closing, {"answer": shot.target[0]}))

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """Two words are always quick to find."""
        return score_yes_no(sample, completion)

    def score(self, sample: Sample, completion: Completion) -> Score:
        """The same as `score_fast`."""
        return score_yes_no(sample, completion)
