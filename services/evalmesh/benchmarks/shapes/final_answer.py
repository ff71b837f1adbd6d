r"""Problems whose reasoning is free and whose last word counts: a number or an expression in `\boxed{}`.

Solved examples are user and assistant turns. An example shows the worked solution its row brings
(`metadata["solution"]`) and closes with the line that the prompt asks for, so that form is learnt along with content.
"""

from dataclasses import dataclass

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.prompting import GENERATING, fill, lay_out
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.final_answer import score_final_answer, score_final_answer_symbolic

TEMPLATE = (
    "Solve this problem. Show your reasoning step by step, then finish with one line that gives only the result, "
    "written inside \\boxed{}.\n\nProblem: {question}"
)


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """Template placeholder: `{question}`. Right means equal as text, as a number or, failing both, symbolically."""

    name: str = "final-answer"
    kinds: tuple[RequestKind, ...] = GENERATING
    template: str = TEMPLATE
    closing: str = "The result is \\boxed{{answer}}."
    """Last line of a solved example; `{answer}` is its target."""
    placeholders: tuple[str, ...] = ("question",)
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = (MetricSpec("accuracy", "accuracy"),)

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""

        def ask(one: Sample) -> str:
            return fill(settings.template, {"question": one.input})

        return lay_out(sample, settings, ask, self._solve)

    def _solve(self, shot: Sample) -> str:
        closing = fill(self.closing, {"answer": shot.target[0]})
        solution = shot.metadata.get("solution", "")
        return f"{solution}\n{closing}" if solution else closing

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """By text and number only; `None` when symbols must be compared."""
        return score_final_answer(sample, completion)

    def score(self, sample: Sample, completion: Completion) -> Score:
        """With symbolic comparison, which can take long on hostile input."""
        return score_final_answer_symbolic(sample, completion)
