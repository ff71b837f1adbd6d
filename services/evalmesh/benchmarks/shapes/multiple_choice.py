"""Multiple choice by generation: the model names a letter.

Solved examples are user and assistant turns; the assistant's turn is the line that the prompt asks for.
"""

import dataclasses
from dataclasses import dataclass
from random import Random
from string import ascii_uppercase

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.prompting import GENERATING, fill, lay_out
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score

TEMPLATE = (
    "Choose the right option for the question below. You may reason first; the last line of your reply must be "
    "'ANSWER: X', where X is one of {letters}.\n\n{question}\n\n{choices}"
)


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Template placeholders: `{question}`, `{choices}` (one `A) text` per line) and `{letters}` (`A, B, C, D`)."""

    name: str = "multiple-choice"
    kinds: tuple[RequestKind, ...] = GENERATING
    template: str = TEMPLATE
    closing: str = "ANSWER: {answer}"
    """Last line of a solved example; `{answer}` is its letter."""
    placeholders: tuple[str, ...] = ("question", "choices")
    needs_target: bool = True
    metrics: tuple[MetricSpec, ...] = (MetricSpec("accuracy", "accuracy"),)

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""

        def ask(one: Sample) -> str:
            letters = ascii_uppercase[: len(one.choices)]
            choices = "\n".join(f"{letter}) {text}" for letter, text in zip(letters, one.choices, strict=True))
            values = {"question": one.input, "choices": choices, "letters": ", ".join(letters)}
            return fill(settings.template, values)

        return lay_out(sample, settings, ask, self._solve)

    def _solve(self, shot: Sample) -> str:
        return fill(self.closing, {"answer": shot.target[0]})

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """Letters are always quick to compare."""
        return self.score(sample, completion)

    def score(self, sample: Sample, completion: Completion) -> Score:
        """The same as `score_fast`."""
        # Its patterns take longer to compile than all else here, and most who know the shape score nothing.
        from evalmesh.scoring.choice import score_choice  # noqa: PLC0415

        return score_choice(sample, completion)


def shuffle_choices(sample: Sample, seed: int) -> Sample:
    """The same question with its options in another order, the same for equal seeds; target letters move along.

    `metadata["choice_order"]` tells the old letters in their new order, so that results can be traced back.
    """
    # Not for secrets; `random()` of a seeded generator is the one sequence Python keeps equal across versions.
    rng = Random(f"{seed}/{sample.id}")  # noqa: S311
    draws = [rng.random() for _ in sample.choices]
    order = sorted(range(len(draws)), key=draws.__getitem__)
    moved = {ascii_uppercase[old]: ascii_uppercase[new] for new, old in enumerate(order)}
    return dataclasses.replace(
        sample,
        choices=tuple(sample.choices[old] for old in order),
        target=tuple(moved[letter] for letter in sample.target),
        metadata={**sample.metadata, "choice_order": "".join(ascii_uppercase[old] for old in order)},
    )
