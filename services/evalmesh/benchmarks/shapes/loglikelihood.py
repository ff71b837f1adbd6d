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
from evalmesh.scoring.loglikelihood import score_likeliest, score_loglikelihood, score_pmi

TEMPLATE = "Question: {question}\nAnswer:"
LETTERS = "{question}\n{choices}\nAnswer:"
"""Makes the options' letters what is judged."""
BLANK = "_"
_METRICS = (
    MetricSpec("acc", "accuracy"),
    MetricSpec("acc_norm", "acc_norm"),
    MetricSpec("acc_bytes", "acc_bytes"),
    MetricSpec("acc_norm_tokens", "acc_norm_tokens"),
)


@dataclass(frozen=True, slots=True)
class LogLikelihoodChoice:
    """Template placeholders: `{question}`, and if letters are to be judged `{choices}` and `{letters}`.

    With `neutral` the options are compared by how much more likely the question makes them than the neutral words do
    (PMI); with neutral words that are empty, than they are by themselves (mutual information).
    """

    name: str = "loglikelihood-choice"
    kinds: tuple[RequestKind, ...] = ("loglikelihood",)
    template: str = TEMPLATE
    intro: str = ""
    """Stands at the beginning of each prompt; `{subset}` is the subset's name in words. A system prompt replaces it."""
    neutral: str | None = None
    placeholders: tuple[str, ...] = ("question",)
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = _METRICS

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt and one continuation per option; with `neutral` two per option, each after a context."""
        _refuse_all_but_text(sample)
        by_letter = "{choices}" in settings.template
        before = settings.once(lambda: self._solved(settings, by_letter=by_letter))
        intro = settings.system or fill(self.intro, {"subset": sample.subset.replace("_", " ")})
        prompt = "\n\n".join([*([intro] if intro else []), *before, self._ask(sample, settings)])
        answers = _answers(sample, by_letter)
        if self.neutral is None:
            return Prompt(text=prompt, continuations=answers)
        contexts = (prompt,) * len(answers) + (self.neutral,) * len(answers)
        return Prompt(contexts=contexts, continuations=answers * 2)

    def _solved(self, settings: PromptSettings, *, by_letter: bool) -> tuple[str, ...]:
        return tuple(self._ask(shot, settings) + _answers(shot, by_letter)[_right(shot)] for shot in settings.shots)

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
        return score_loglikelihood(sample, completion) if self.neutral is None else score_pmi(sample, completion)


@dataclass(frozen=True, slots=True)
class LogLikelihoodBlank:
    """A sentence with a blank (`_`): each option is put into it, and what follows the blank is judged.

    The options differ, and what is judged is the same text, so no option gains by its length (Trinh and Le, "A Simple
    Method for Commonsense Reasoning", arXiv:1806.02847: partial scoring). Template placeholder: `{question}`, which is
    the sentence up to and with the option.
    """

    name: str = "loglikelihood-blank"
    kinds: tuple[RequestKind, ...] = ("loglikelihood",)
    template: str = "{question}"
    placeholders: tuple[str, ...] = ("question",)
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = (MetricSpec("acc", "accuracy"),)

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """One context per option, and the same end for all."""
        _refuse_all_but_text(sample)
        before = settings.once(lambda: self._solved(settings))
        starts, end = self._parts(sample, settings)
        start = "".join(f"{part}\n\n" for part in before)
        return Prompt(text=start, contexts=starts, continuations=(end,) * len(starts))

    def _solved(self, settings: PromptSettings) -> tuple[str, ...]:
        parts = ((self._parts(shot, settings), _right(shot)) for shot in settings.shots)
        solved = (starts[right] + end for (starts, end), right in parts)
        return (*([settings.system] if settings.system else []), *solved)

    def _parts(self, sample: Sample, settings: PromptSettings) -> tuple[tuple[str, ...], str]:
        before, _, after = sample.input.partition(BLANK)
        starts = (fill(settings.template, {"question": before + choice}) for choice in sample.choices)
        return tuple(starts), " " + after.strip()

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """Sums are always quick to compare."""
        return score_likeliest(sample, completion)

    def score(self, sample: Sample, completion: Completion) -> Score:
        """The same as `score_fast`."""
        return score_likeliest(sample, completion)


def _refuse_all_but_text(sample: Sample) -> None:
    if sample.media or sample.messages:
        raise Unimplemented(f"Sample {sample.id} has media or a conversation; log-likelihoods are of text.")


def _answers(sample: Sample, by_letter: bool) -> tuple[str, ...]:  # noqa: FBT001 - of the template
    texts = ascii_uppercase[: len(sample.choices)] if by_letter else sample.choices
    return tuple(f" {text}" for text in texts)


def _right(sample: Sample) -> int:
    return ascii_uppercase.index(sample.target[0])


def ways(template: str = TEMPLATE, intro: str = "", neutral: str = "Answer:") -> Mapping[str, Shape]:
    """For `Benchmark.modes` of multiple-choice benchmarks, with a prompt of their own.

    What the question adds is of options as texts: letters are equally likely without it.
    """
    cloze = TEMPLATE if "{choices}" in template else template
    pmi, mutual = (MetricSpec("acc_pmi", "accuracy"),), (MetricSpec("acc_mutual_info", "accuracy"),)
    return {
        "loglikelihood": LogLikelihoodChoice(
            template=template, intro=intro, metrics=_METRICS if cloze == template else _METRICS[:1]
        ),
        "pmi": LogLikelihoodChoice("loglikelihood-choice-pmi", template=cloze, neutral=neutral, metrics=pmi),
        "mutual_info": LogLikelihoodChoice(
            "loglikelihood-choice-mutual-info", template=cloze, neutral="", metrics=mutual
        ),
    }


MODES = ways()
