"""A model's own tokenizer, from the files it is published with; loaded when a folder is given, and only then."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalmesh.domain.errors import FailedPrecondition, InvalidInput, NotFound
from evalmesh.load_generator.prompts import chat_template

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

_FIELD = {"field": "prompts.tokenizer_digest"}


class Tokenizer:
    """Counts tokens as a server with the same files does."""

    def __init__(self, core: "Core", template: chat_template.ChatTemplate | None) -> None:
        core.no_truncation()
        core.no_padding()
        self.core = core
        self.template = template

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; `special` adds what the tokenizer puts around a plain text (a start token)."""
        return self.core.encode_batch_fast([text], add_special_tokens=special)[0].ids

    def count(self, text: str, *, special: bool = False) -> int:
        """Tokens of a text."""
        return len(self.ids(text, special=special))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of many texts, faster than one by one."""
        return [len(found.ids) for found in self.core.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count_messages(self, messages: Sequence[Mapping[str, object]]) -> int:
        """Tokens of a chat, the template included. A template writes its own start token, so none is added."""
        if self.template is None:
            return self.count("".join(str(message.get("content", "")) for message in messages), special=True)
        return self.count(self.template.render(messages))


def load(folder: Path) -> Tokenizer:
    """Reads `tokenizer.json`, `tokenizer_config.json` and the chat template of a folder.

    Raises `NotFound` without a `tokenizer.json`, `InvalidInput` for files that cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise NotFound(
            "The tokenizer has no tokenizer.json. Give the folder of a model whose tokenizer is published in that form "
            "(a `tokenizer.model` alone has to be converted first).",
            _FIELD,
        )
    try:
        from tokenizers import Tokenizer as Core  # noqa: PLC0415 - an extra, and 40 ms
    except ImportError as error:
        raise FailedPrecondition(
            "Prompts of an exact length need the package 'tokenizers': pip install 'evalmesh[perf]'."
        ) from error
    try:
        core = Core.from_file(str(path))
        config: Any = {}
        if (folder / "tokenizer_config.json").is_file():
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = chat_template.find(folder, config if isinstance(config, dict) else {})
    except InvalidInput:
        raise
    except Exception as error:  # the package raises bare exceptions
        raise InvalidInput(
            f"tokenizer_path: tokenizer.json cannot be read: {error}. Fetch the files again.", _FIELD
        ) from error
    return Tokenizer(core, template)
