"""Instructions whose following a program can check; what else a response says does not matter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalmesh.benchmarks.base import MetricSpec, Prompt, PromptSettings
from evalmesh.benchmarks.shapes.prompting import GENERATING, fill, lay_out
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import RequestKind
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.instruction_following import is_quick, score_instructions
from evalmesh.scoring.instructions.languages import PACKAGES


@dataclass(frozen=True, slots=True)
class Instructions:
    """Template placeholder: `{question}`. `sample.reference`: a list of `{id, args}`, `scoring.instructions.checks`.

    Needs the extra `ifeval`.
    """

    name: str = "instructions"
    kinds: tuple[RequestKind, ...] = GENERATING
    template: str = "{question}"
    placeholders: tuple[str, ...] = ("question",)
    packages: Mapping[str, str] = field(default_factory=lambda: PACKAGES)
    extra: str = "ifeval"
    metrics: tuple[MetricSpec, ...] = (
        MetricSpec("prompt_level_strict", "prompt_level_strict"),
        MetricSpec("inst_level_strict", "inst_level_strict", weight="instructions"),
        MetricSpec("prompt_level_loose", "prompt_level_loose"),
        MetricSpec("inst_level_loose", "inst_level_loose", weight="instructions"),
    )

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt as it is."""
        return lay_out(sample, settings, lambda one: fill(settings.template, {"question": one.input}), lambda _: "")

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """`None` for languages, and for texts of pages: patterns of the rows are tried at every place of them."""
        return self.score(sample, completion) if is_quick(sample, completion) else None

    def score(self, sample: Sample, completion: Completion) -> Score:
        """However long the text is."""
        return score_instructions(sample, completion)
