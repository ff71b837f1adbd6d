"""What a benchmark asks of the endpoint it runs on, and whether an endpoint has it."""

from dataclasses import dataclass
from typing import Literal

from evalmesh.domain.request import RequestKind

Modality = Literal["text", "image", "audio", "video"]

TEXT: frozenset[Modality] = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class Needs:
    """What the requests of one benchmark take for granted."""

    benchmark: str
    kind: RequestKind
    modalities: frozenset[Modality] = TEXT
    """What the prompts hold."""
    logprobs: bool = False
    tools: bool = False
    context_tokens: int | None = None
    """The least a context must hold: the longest answer asked for. The prompts come on top and are not known yet."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint can do; a benchmark that needs more is refused before anything is spent.

    `None` is not known, which refuses nothing: an address does not tell what stands behind it.
    """

    kinds: frozenset[RequestKind]
    streaming: bool = True
    seed: bool = True
    modalities: frozenset[Modality] | None = None
    logprobs: bool | None = None
    """Log probabilities of a given text."""
    tools: bool | None = None
    max_context_tokens: int | None = None
    """Prompt and answer together."""
    preferred_batch: int = 1
    """How many requests at once serve it best; 1 for servers, which batch by themselves."""
    weights: str = ""
    """Of a model that runs here: its files as a digest. Answers of equal ones may stand for each other."""

    def lacking(self, needs: Needs) -> tuple[str, str] | None:
        """The first need that is not met, and what there is instead, in words; `None` when all are met."""
        if needs.kind not in self.kinds:
            return f"{needs.kind} requests", f"serves {_listed(self.kinds)}"
        if self.modalities is not None and not needs.modalities <= self.modalities:
            return f"{_listed(needs.modalities)} in its prompts", f"takes {_listed(self.modalities)}"
        if needs.logprobs and self.logprobs is False:
            return "the log probabilities of a given text", "gives none"
        if needs.tools and self.tools is False:
            return "tool calls", "makes none"
        most, least = self.max_context_tokens, needs.context_tokens
        if most is not None and least is not None and least >= most:
            return f"answers of up to {least} tokens and room for a prompt", f"holds {most} tokens in all"
        return None


def _listed(names: frozenset[RequestKind] | frozenset[Modality]) -> str:
    return ", ".join(sorted(names)) or "nothing"
