"""What all generating shapes share: filling a template, and laying out solved examples."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from evalmesh.benchmarks.base import Prompt, PromptSettings
from evalmesh.domain.content import Content, ContentPart
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


_PLACE = re.compile(r"<(image|audio|video) (\d{1,3})>")


def with_media(text: str, media: Sequence[ContentPart]) -> Content:
    """The text with its media: where `<image 1>` says, else before it. Without media the text as it is."""
    if not media:
        return text
    counts: Counter[str] = Counter()
    named: dict[tuple[str, str], ContentPart] = {}
    for part in media:
        counts[part.kind] += 1
        named[part.kind, str(counts[part.kind])] = part
    parts: list[ContentPart] = []
    used: set[tuple[str, str]] = set()
    start = 0
    for match in _PLACE.finditer(text):
        key = (match[1], match[2].lstrip("0"))
        if key in named:
            parts += [*_text(text[start : match.start()]), named[key]]
            used.add(key)
            start = match.end()
    before = [part for key, part in named.items() if key not in used]
    return (*before, *parts, *_text(text[start:]))


def _text(text: str) -> tuple[ContentPart, ...]:
    return (ContentPart("text", text),) if text.strip() else ()


def lay_out(
    sample: Sample, settings: PromptSettings, ask: Callable[[Sample], str], solve: Callable[[Sample], str]
) -> Prompt:
    """Chat: each solved example is a user turn and an assistant turn. Completion: the same texts, one after another.

    Media and the turns of a conversation that the sample brings come with the question; what the user says after it is
    asked as it is. Raises `Unimplemented` for the kinds that do not generate text, and for media, tools and several
    turns where there are no messages to put them in.
    """
    if settings.kind == "chat":
        before = settings.once(lambda: _solved_turns(settings, ask, solve))
        return Prompt(messages=(*before, *_turns(sample, ask)), tools=sample.tools, followups=sample.followups)
    if settings.kind == "completion":
        if sample.media or sample.tools or sample.followups or any(not message.plain for message in sample.messages):
            raise Unimplemented(
                f"Sample {sample.id} has media, tools or several turns, which only a model of kind chat can be sent."
            )
        start = settings.once(lambda: _solved_texts(settings, ask, solve))
        return Prompt(text="\n\n".join([*start, *_texts(sample, ask)]) + "\n\n")
    raise Unimplemented(
        f"This benchmark asks for generated text and has no prompt of kind '{settings.kind}'; use chat or completion."
    )


def _solved_turns(
    settings: PromptSettings, ask: Callable[[Sample], str], solve: Callable[[Sample], str]
) -> tuple[Message, ...]:
    messages = [Message("system", settings.system)] if settings.system else []
    for shot in settings.shots:
        messages += [*_turns(shot, ask), Message("assistant", solve(shot))]
    return tuple(messages)


def _solved_texts(
    settings: PromptSettings, ask: Callable[[Sample], str], solve: Callable[[Sample], str]
) -> tuple[str, ...]:
    solved = ("\n\n".join([*_texts(shot, ask), solve(shot)]) for shot in settings.shots)
    return (*([settings.system] if settings.system else []), *solved)


def _turns(sample: Sample, ask: Callable[[Sample], str]) -> list[Message]:
    if sample.messages and not sample.input and not sample.media:
        return list(sample.messages)
    return [*sample.messages, Message("user", with_media(ask(sample), sample.media))]


def _texts(sample: Sample, ask: Callable[[Sample], str]) -> list[str]:
    return [message.text for message in _turns(sample, ask)]
