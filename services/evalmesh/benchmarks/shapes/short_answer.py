"""Questions with short answers of one or several spans, compared as DROP does: exact match, and F1 of words."""

from dataclasses import dataclass

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.prompting import GENERATING, fill, lay_out
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.short_answer import is_quick, score_short_answer

TEMPLATE = (
    "{question}\n\nThink it through if you like; the last line of your reply must be 'ANSWER: X', where X is the "
    "answer in as few words as it takes. Separate several parts with semicolons."
)


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """Template placeholder: `{question}`. `sample.reference` is a list of accepted answers, each a list of spans."""

    name: str = "short-answer"
    kinds: tuple[RequestKind, ...] = GENERATING
    template: str = TEMPLATE
    closing: str = "ANSWER: {answer}"
    """A solved example; `{answer}` is its target."""
    placeholders: tuple[str, ...] = ("question",)
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = (MetricSpec("f1", "f1"), MetricSpec("exact_match", "exact_match"))

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""

        def ask(one: Sample) -> str:
            return fill(settings.template, {"question": one.input})

        return lay_out(sample, settings, ask, lambda shot: fill(self.closing, {"answer": shot.target[0]}))

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """`None` for texts of pages."""
        return score_short_answer(sample, completion) if is_quick(completion) else None

    def score(self, sample: Sample, completion: Completion) -> Score:
        """However long the text is."""
        return score_short_answer(sample, completion)
