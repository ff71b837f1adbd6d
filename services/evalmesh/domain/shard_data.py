"""The rows that steps hand to each other through the object store."""

from dataclasses import dataclass

from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.request import GenerationConfig, Message, Request, RequestKind
from evalmesh.domain.sample import Sample


@dataclass(frozen=True, slots=True)
class Reusable:
    """An output of an earlier run that may answer some of a shard's requests."""

    run: str
    stage: str
    shard: int
    benchmark: str = ""
    """What that run calls the benchmark; empty: as this one does."""


@dataclass(frozen=True, slots=True)
class SharedPrompt:
    """What all samples of a shard are asked with: it stands once, in the header, and not in every row."""

    messages: tuple[Message, ...] = ()
    """The first messages: system prompt and solved examples."""
    prompt: str = ""
    """How the prompts begin."""
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: str = ""


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """First line of a shard's requests: all a runner needs besides the rows."""

    run: str
    benchmark: str
    shard: int
    subset: str
    generation: GenerationConfig
    reuse: tuple[Reusable, ...] = ()
    shared: SharedPrompt = SharedPrompt()


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample with what will be asked about it; repeats share the prompt and differ by seed and digest."""

    sample: Sample
    kind: RequestKind
    digests: tuple[str, ...]
    """Generation digest per repeat."""
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    continuations: tuple[str, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: str = ""
    rolling: bool = False
    contexts: tuple[str, ...] = ()
    followups: tuple[str, ...] = ()

    def requests(self) -> tuple[Request, ...]:
        """One request per repeat."""
        return tuple(
            Request(
                sample_id=self.sample.id,
                repeat=repeat,
                kind=self.kind,
                digest=digest,
                messages=self.messages,
                prompt=self.prompt,
                continuations=self.continuations,
                tools=self.tools,
                tool_choice=self.tool_choice,
                rolling=self.rolling,
                contexts=self.contexts,
                followups=self.followups,
            )
            for repeat, digest in enumerate(self.digests)
        )
