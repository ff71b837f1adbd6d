"""What all generating shapes share: filling a template, and laying out solved examples."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from evalmesh.benchmarks.base import Prompt, PromptSettings
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.request import Message, RequestKind
from evalmesh.domain.sample import Sample

GENERATING: tuple[RequestKind, ...] = ("chat", "completion")
"""The kinds that `lay_out` knows."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replaces `{name}` for the names in `values` and leaves every other brace alone.

    One pass: braces that come in with a value (maths, code) are never taken for placeholders.
    """
    return _placeholders(tuple(values)).sub(lambda match: values[match[1]], template)


@lru_cache(maxsize=64)
def _placeholders(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"\{(" + "|".join(map(re.escape, names)) + r")\}")


def lay_out(
    sample: Sample, settings: PromptSettings, ask: Callable[[Sample], str], solve: Callable[[Sample], str]
) -> Prompt:
    """Chat: each solved example is a user turn and an assistant turn. Completion: the same texts, one after another.

    Raises `Unimplemented` for the kinds that do not generate text.
    """
    if settings.kind == "chat":
        messages = [Message("system", settings.system)] if settings.system else []
        for shot in settings.shots:
            messages += [Message("user", ask(shot)), Message("assistant", solve(shot))]
        messages.append(Message("user", ask(sample)))
        return Prompt(messages=tuple(messages))
    if settings.kind == "completion":
        solved = [f"{ask(shot)}\n\n{solve(shot)}" for shot in settings.shots]
        parts = [*([settings.system] if settings.system else []), *solved, ask(sample)]
        return Prompt(text="\n\n".join(parts) + "\n\n")
    raise Unimplemented(
        f"This benchmark asks for generated text and has no prompt of kind '{settings.kind}'; use chat or completion."
    )
