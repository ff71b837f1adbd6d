"""Multiple choice by log-likelihood: the model writes nothing; the option that it finds likeliest is its answer.

With the shape's own template the options are judged as texts after the question (the cloze form). A template that lists
`{choices}` makes the options' letters what is judged. Solved examples precede the question in the same form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings, Shape
from evalmesh.benchmarks.shapes.prompting import fill
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.loglikelihood import score_loglikelihood, score_pmi

TEMPLATE = "Question: {question}\nAnswer:"
_METRICS = (
    MetricSpec("acc", "accuracy"),
    MetricSpec("acc_norm", "acc_norm"),
    MetricSpec("acc_norm_tokens", "acc_norm_tokens"),
)


@dataclass(frozen=True, slots=True)
class LogLikelihoodChoice:
    """Template placeholders: `{question}`, and if letters are to be judged `{choices}` and `{letters}`.

    With `neutral` the options are compared by how much more likely the question makes them than the neutral words do
    (PMI). Both halves are then judged with an empty prompt: what all options share shifts all by the same amount, so it
    changes no order.
    """

    name: str = "loglikelihood-choice"
    kinds: tuple[RequestKind, ...] = ("loglikelihood",)
    template: str = TEMPLATE
    neutral: str = ""
    placeholders: tuple[str, ...] = ("question",)
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = _METRICS

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt and one continuation per option; with `neutral` two per option and no prompt."""
        if sample.media or sample.messages:
            raise Unimplemented(f"Sample {sample.id} has media or a conversation; log-likelihoods are of text.")
        by_letter = "{choices}" in settings.template
        before = settings.once(lambda: self._solved(settings, by_letter=by_letter))
        prompt = "\n\n".join([*before, self._ask(sample, settings)])
        answers = _answers(sample, by_letter)
        if self.neutral:
            return Prompt(continuations=tuple(start + one for start in (prompt, self.neutral) for one in answers))
        return Prompt(text=prompt, continuations=answers)

    def _solved(self, settings: PromptSettings, *, by_letter: bool) -> tuple[str, ...]:
        solved = (self._ask(shot, settings) + _answers(shot, by_letter)[_right(shot)] for shot in settings.shots)
        return (*([settings.system] if settings.system else []), *solved)

    def _ask(self, sample: Sample, settings: PromptSettings) -> str:
        letters = ascii_uppercase[: len(sample.choices)]
        choices = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, sample.choices, strict=True))
        return fill(
            settings.template, {"question": sample.input, "choices": choices, "letters": ", ".join(letters)}
        ).rstrip()

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """Sums are always quick to compare."""
        return self.score(sample, completion)

    def score(self, sample: Sample, completion: Completion) -> Score:
        """The same as `score_fast`."""
        return score_pmi(sample, completion) if self.neutral else score_loglikelihood(sample, completion)


def _answers(sample: Sample, by_letter: bool) -> tuple[str, ...]:  # noqa: FBT001 - of the template
    texts = ascii_uppercase[: len(sample.choices)] if by_letter else sample.choices
    return tuple(f" {text}" for text in texts)


def _right(sample: Sample) -> int:
    return ascii_uppercase.index(sample.target[0])


MODES: Mapping[str, Shape] = {
    "loglikelihood": LogLikelihoodChoice(),
    "pmi": LogLikelihoodChoice(
        name="loglikelihood-choice-pmi", neutral="Answer:", metrics=(MetricSpec("acc_pmi", "accuracy"),)
    ),
}
"""For `Benchmark.modes` of multiple-choice benchmarks."""
