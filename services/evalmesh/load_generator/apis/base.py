"""What an API plug-in is: how a request body is made, and how its answer is read.

Built-in ones are modules beside this one; others come from the entry point group `evalmesh.load_apis`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, before it has the shape of an API. A data set fills what it has; an API takes what it knows."""

    model: str
    stream: bool
    messages: tuple[Mapping[str, object], ...] = ()
    """Chat messages in OpenAI's form; content may be parts with images."""
    text: str = ""
    """One prompt of plain text."""
    token_ids: tuple[int, ...] | None = None
    """The same as token ids."""
    texts: tuple[str, ...] = ()
    """Texts to embed, or documents to rank."""
    query: str = ""
    """What documents are ranked for."""
    max_tokens: int = 0
    """0: not limited."""
    min_tokens: int = 0
    extra: Mapping[str, object] = field(default_factory=dict)
    """Merged into the body last; a value of `None` removes the key."""
