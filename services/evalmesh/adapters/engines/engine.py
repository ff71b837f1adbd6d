"""What an engine is: the model in a process of its own. Implemented in the child (`child.py`), which imports it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from evalmesh.domain.completion import Completion
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Request


class EngineError(Exception):
    """It cannot be opened: one sentence for whoever chose the model or the option."""

    def __init__(self, sentence: str, field: str = "model.args") -> None:
        """`field`: the part of the spec that has to change: `model.model`, `model.args.device_map`."""
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is opened with."""

    model: str
    """A folder, or a name of a hub."""
    kind: Literal["chat", "completion"] = "chat"
    """How benchmarks ask; both kinds can come whatever it says."""
    concurrency: int = 64
    """The most requests that `answer` is asked at once."""
    args: Mapping[str, object] = field(default_factory=dict)
    """The options of the engine's own table (`options.py`), read and complete, without those of the children."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One question, with all that its answer depends on."""

    request: Request
    config: GenerationConfig
    media: Mapping[str, bytes] = field(default_factory=dict)
    """Of its messages, by sha256."""

    @property
    def seed(self) -> int | None:
        """Repeats differ, and runs repeat."""
        return None if self.config.seed is None else self.config.seed + self.request.repeat


class Host(Protocol):
    """What the child does for its engine. Every method may be called from any thread."""

    def note(self, sentence: str) -> None:
        """Tells the user something that costs nothing but speed, such as a batch that did not fit into the memory."""
        ...

    def progress(self) -> None:
        """Says that the engine works: once a step, or a batch. One that says nothing for too long is ended."""
        ...


class Engine(Protocol):
    """One copy of a model. Called on the event loop of the child, which it must not block for long."""

    def describe(self) -> Capabilities:
        """What this model can do. `weights` stays empty.

        `preferred_batch` is how many requests at once keep it busy; twice as many are asked of it, so that it can
        choose, unless the user wants fewer.
        """
        ...

    def sources(self) -> Sequence[Path]:
        """Files and folders that the model was read from: what is in them makes completions the same (`weights.py`)."""
        ...

    async def answer(self, request: EngineRequest) -> Completion:
        """The answer, or a completion with the error that this request alone is to blame for.

        An answer ends where the context does, with the finish reason `length`; a prompt that leaves no room for one is
        a `bad_request`.
        Called many times at once; the engine batches as it likes. When it is cancelled, the request leaves the batch.
        What it raises becomes an error of class `internal`; it need set neither `tries` nor `timing`.
        """
        ...

    async def close(self) -> None:
        """Frees what `open` took. The process ends right after."""
        ...


class OpenEngine(Protocol):
    """Loads a model. Each engine has one such function at its module's top, named in `options.ENGINES`."""

    async def __call__(self, options: EngineOptions, host: Host) -> Engine:
        """Called in the main thread of the child, on its loop, which it may block. Raises `EngineError`."""
        ...
