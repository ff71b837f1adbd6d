"""What a data set is: how it says what is asked, and where the limits of one request come from.

A data set is one of two kinds. One that *makes* prompts gives prompt number n, for any n. One that *reads* them goes
through its rows once; numbers, cycling, bounds of length and counting are done around it (`source`). Built-in ones are
modules of `datasets`; others come from the entry point group `evalmesh.load_datasets`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTarget, PromptSpec
from evalmesh.load_generator.prompts.writer import Writer
from evalmesh.wire.row_files import Bad

NAN = float("nan")
Message = Mapping[str, object]


class LoadPrompt(msgspec.Struct, frozen=True, gc=False):
    """One request before it has the shape of an API: whichever of the fields a data set has."""

    # A msgspec struct, because tens of thousands are made per second.

    text: str = ""
    """One user's message, or one plain prompt."""
    messages: tuple[Message, ...] = ()
    """A whole chat."""
    token_ids: tuple[int, ...] | None = None
    texts: tuple[str, ...] = ()
    """Texts to embed, documents to rank."""
    query: str = ""
    body: dict[str, Any] | None = None
    """A recorded body; it is sent as it is, but for what the target decides."""
    turns: tuple[str, ...] = ()
    """A conversation's user messages."""
    system: str = ""
    """A conversation's system message."""
    turn_tokens: tuple[int, ...] = ()
    """New tokens of each turn; empty: unknown."""
    turn_limits: tuple[int, ...] = ()
    """`max_tokens` of each turn; empty: drawn from `output_tokens`."""
    tokens: int = 0
    """Length the prompt was made to have, or has; 0: unknown."""
    max_tokens: int = 0
    """0: drawn from `output_tokens`, if that is given."""
    exact_output: bool = False
    """The answer's length is part of the load: the server is asked to ignore its end mark."""
    images: bool = False
    """Images are part of it, whose tokens nobody but the server can count."""


@dataclass(frozen=True, slots=True)
class Later:
    """A row whose prompt takes time to make; made only at the seat that sends it."""

    make: Callable[[int], LoadPrompt]
    """From the number of the prompt."""
    offset_s: float = 0.0
    """Traces: when it was sent, in seconds since the first row."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is sound and left out."""

    reason: str
    """Counted, and told as `12 rows were left out: <reason>`."""


Row = LoadPrompt | Later | Bad | Skipped


@dataclass(slots=True)
class Context:
    """What a data set gets to work with."""

    target: LoadTarget
    spec: PromptSpec
    path: Path | None
    """The data set file, or a folder."""
    writer: Writer
    seed: int
    salt: int = 0
    """Differs from level to level where a level asks the same rows again, so that texts we make are new."""
    renders: bool = False
    """Whether the chat template is put around texts here, because the API takes plain text."""
    distinct: int | None = None
    """Different prompts a data set can make; `None`: more than anybody asks for."""
    recorded: bool = False
    """Whether texts come from the file, so that asking a row again is asking the same again."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the report must know."""

    def note(self, text: str) -> None:
        """Adds a sentence once."""
        if text not in self.notes:
            self.notes.append(text)

    def file(self) -> Path:
        """The data set file; raises `InvalidInput` when none was given."""
        if self.path is None:
            raise InvalidInput(
                f"The data set '{self.spec.dataset}' reads a file, and none is given: set prompts.file_digest (on the "
                "command line --dataset-path).",
                {"field": "prompts.file_digest"},
            )
        return self.path

    def number(self, name: str, default: int, least: int = 0) -> int:
        """A whole number out of `prompts.args`."""
        value = self.spec.args.get(name, default)
        if isinstance(value, float) and value.is_integer():  # a number that came through JSON
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidInput(
                f"prompts.args.{name} is {value!r}; give a whole number of at least {least}.",
                {"field": f"prompts.args.{name}"},
            )
        return value


@dataclass(frozen=True, slots=True)
class Dataset:
    """A kind of data set."""

    name: str
    summary: str
    make: Callable[[Context], Callable[[int], LoadPrompt]] | None = None
    rows: Callable[[Context], Iterator[Row]] | None = None
    timed: bool = False
    """Its rows say when they were sent; they are `Later`, in order of time."""
    conversations: bool = False
    apis: tuple[str, ...] = ()
    """APIs it makes sense for; empty: those that answer with text."""
