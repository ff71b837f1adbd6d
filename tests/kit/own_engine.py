"""An engine of ours in this process, without the child around it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from evalmesh.adapters.engines.engine import Engine, EngineOptions, EngineRequest
from evalmesh.adapters.engines.options import ENGINES, read_args
from evalmesh.domain.completion import Completion
from evalmesh.domain.request import GenerationConfig, Message, Request


class Notes:
    """A `Host` that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps = 0

    def note(self, sentence: str) -> None:
        self.said.append(sentence)

    def progress(self) -> None:
        self.steps += 1


def options(folder: Path, concurrency: int = 64, **args: Any) -> EngineOptions:
    """As the house would make them of what a user typed."""
    read = read_args("transformers", ENGINES["transformers"], args)
    kept = {name: getattr(read, name) for name in read.__struct_fields__ if name not in ("data_parallel", "devices")}
    return EngineOptions(str(folder), concurrency=concurrency, args=kept)


@asynccontextmanager
async def transformers_engine(folder: Path, host: Notes | None = None, **more: Any) -> AsyncIterator[Engine]:
    """`more`: `concurrency`, and model args."""
    from evalmesh.adapters.engines.transformers.engine import open_transformers  # noqa: PLC0415 - it loads torch

    engine = await open_transformers(options(folder, **more), host or Notes())
    try:
        yield engine
    finally:
        await engine.close()


def chat(text: str, number: int = 0, **more: Any) -> Request:
    messages = more.pop("messages", (Message("user", text),))
    return Request(f"s{number}", 0, "chat", f"digest-{text}", messages=messages, **more)


def plain(text: str, number: int = 0) -> Request:
    return Request(f"s{number}", 0, "completion", f"digest-{text}", prompt=text)


def judged(context: str, *continuations: str, **more: Any) -> Request:
    return Request("s", 0, "loglikelihood", "digest", prompt=context, continuations=continuations, **more)


async def ask(engine: Engine, requests: Sequence[Request], **config: Any) -> list[Completion]:
    """All at once."""
    wish = GenerationConfig(**config)
    return list(await asyncio.gather(*(engine.answer(EngineRequest(request, wish)) for request in requests)))
