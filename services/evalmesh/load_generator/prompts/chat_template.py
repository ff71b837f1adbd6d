"""Chat templates, rendered as model servers do: Jinja in a sandbox, with the special tokens in reach.

A sandbox bounds what a template can touch, not how long it runs: that needs a process that can be killed.
"""

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalmesh.domain.errors import InternalError, InvalidInput

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
        self._child = _start()
        self._end = weakref.finalize(self, _end, self._child)
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
            given, out = self._child.stdin, self._child.stdout
            if given is None or out is None:
                raise InternalError("A template's process was started without pipes.")
            try:
                given.write(LENGTH.pack(len(data)) + data)
                given.flush()
                answer = out.read(LENGTH.unpack(out.read(LENGTH.size))[0])
                found = json.loads(answer)
            except (OSError, ValueError, struct.error):
                # Ended by the kernel, at this template's hands; another try would end the same way.
                return "", f"it took longer than {RENDER_CPU_S:g} s, or more memory than a template may have"
        return found.get("text", ""), found.get("error", "")


def _start() -> "subprocess.Popen[bytes]":
    kept = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG")
    return subprocess.Popen(  # noqa: S603  (our own module)
        [sys.executable, "-P", "-m", _CHILD],
        env={name: os.environ[name] for name in kept if name in os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    child.wait()


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
