"""Chat templates, rendered as model servers do: Jinja in a sandbox, with the special tokens in reach.

A sandbox bounds what a template can touch, not how long it runs: that needs a process that can be killed.
"""

import contextlib
import io
import json
import os
import struct
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from evalmesh.domain.errors import InvalidInput
from evalmesh.process.child import Child, Command
from evalmesh.process.environment import essentials

LENGTH = struct.Struct("<I")
"""Before each frame on the pipes."""
RENDER_CPU_S = 1.0
"""Real templates take a thousandth of it."""
_CHILD = "evalmesh.load_generator.prompts.template_child"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FIELD = {"field": "prompts.tokenizer_digest"}


class ChatTemplate:
    """A model's template, compiled in a process that ends with this object."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        """Raises `InvalidInput` when the template is no Jinja."""
        self._lock = threading.Lock()
        child = Child(Command([sys.executable, "-P", "-m", _CHILD], essentials(), log=Path(os.devnull)))
        self.pid = child.pid
        """Of the process."""
        given, out, _ = child.pipes
        assert isinstance(given, io.FileIO)  # noqa: S101  (only a guarded child has no pipes)
        assert isinstance(out, io.FileIO)  # noqa: S101  (likewise)
        self._given, self._out = io.BufferedWriter(given), io.BufferedReader(out)
        self._end = weakref.finalize(self, _end, child, self._given, self._out)
        _, problem = self._ask({"source": source, "special": dict(special)})
        if problem:
            self._end()
            raise InvalidInput(f"The tokenizer's chat template is not valid Jinja: {problem}. Repair it.", _FIELD)

    def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        """The text the model sees, up to where its answer begins.

        Raises `InvalidInput` with the template's own complaint (roles that do not take turns, no system message), and
        for a template that takes too long, too much memory or writes too much.
        """
        text, problem = self._ask({"messages": list(messages)})
        if problem:
            raise InvalidInput(
                f"The tokenizer's chat template cannot render the messages: {problem}. Send other messages, or use a "
                "tokenizer folder whose template takes them.",
                _FIELD,
            )
        return text

    def _ask(self, frame: Mapping[str, object]) -> tuple[str, str]:
        """The text, or what is wrong."""
        with self._lock:
            data = json.dumps(frame).encode()
            try:
                self._given.write(LENGTH.pack(len(data)) + data)
                self._given.flush()
                answer = self._out.read(LENGTH.unpack(self._out.read(LENGTH.size))[0])
                found = json.loads(answer)
            except (OSError, ValueError, struct.error):
                # Ended by the kernel, at this template's hands; another try would end the same way.
                return "", f"it took longer than {RENDER_CPU_S:g} s, or more memory than a template may have"
        return found.get("text", ""), found.get("error", "")


def _end(child: Child, *pipes: IO[bytes]) -> None:
    child.kill()
    child.ended.result()
    for pipe in pipes:
        with contextlib.suppress(OSError):  # what was not written has nowhere to go
            pipe.close()


def find(folder: Path, config: Mapping[str, Any]) -> ChatTemplate | None:
    """The template of a tokenizer folder: `chat_template.jinja`, `chat_template.json`, or in the configuration."""
    source: Any = config.get("chat_template")
    if (path := folder / "chat_template.jinja").is_file():
        source = path.read_text(encoding="utf-8")
    elif (path := folder / "chat_template.json").is_file():
        source = json.loads(path.read_text(encoding="utf-8")).get("chat_template", source)
    if isinstance(source, list):  # several by name
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default", next(iter(named.values()), None))
    if not isinstance(source, str) or not source:
        return None
    return ChatTemplate(source, _special_tokens(config))


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in _SPECIAL:
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found
