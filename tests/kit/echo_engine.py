"""An engine that loads nothing and answers by rule; what a prompt says first decides what becomes of it.

`die`: the process ends; `die-once`: unless the file `args.died` is there, which is made; `die-with N`: when at least N
requests are in flight. `raise`: the engine raises. `hang`: no answer, ever. `stuck`: the whole process stands still.
`print`: something is printed before the answer. `note`: a note is told. `large N`: an answer of so many characters.
`wait`: no answer before the file `args.gate` is there. Everything else is answered with itself. Each answer takes
`args.pause_s`, and its loading `args.load_s`.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evalmesh.adapters.engines.engine import EngineError, EngineOptions, EngineRequest, Host
from evalmesh.adapters.engines.options import EngineArgs, EngineKind
from evalmesh.domain.completion import Completion, Usage
from evalmesh.domain.needs import TEXT, Capabilities


class EchoArgs(EngineArgs, frozen=True, kw_only=True):
    """Its options, see the module."""

    diary: str = ""
    died: str = ""
    gate: str = ""
    fail: str = ""
    pause_s: float = 0.0
    load_s: float = 0.0


ENGINES = {"transformers": EngineKind("tests.kit.echo_engine:open_echo", EchoArgs, (), "transformers")}
"""It stands for an engine that there is."""


class EchoEngine:
    """See the module."""

    def __init__(self, options: EngineOptions, host: Host) -> None:
        """`args.diary`: a file with a line for each request that comes and each that is cancelled."""
        self.options = options
        self._host = host
        self.in_flight = 0

    def describe(self) -> Capabilities:
        """Small."""
        kinds = frozenset({"chat", "completion", "loglikelihood"})
        return Capabilities(
            kinds, modalities=TEXT, logprobs=True, tools=False, max_context_tokens=4096, preferred_batch=8
        )  # type: ignore[arg-type]

    def sources(self) -> Sequence[Path]:
        """The model's folder."""
        return [Path(self.options.model)]

    async def answer(self, request: EngineRequest) -> Completion:
        """By rule."""
        asked = request.request
        prompt = asked.prompt or asked.messages[-1].text
        self._write(f"ask {asked.id}")
        self.in_flight += 1
        try:
            text = await self._obey(prompt)
        except asyncio.CancelledError:
            self._write(f"forget {asked.id}")
            raise
        finally:
            self.in_flight -= 1
        self._host.progress()
        return Completion(
            asked.sample_id,
            asked.repeat,
            asked.digest,
            text,
            finish_reason="stop",
            usage=Usage(len(prompt.split()), len(text.split())),
        )

    async def _obey(self, prompt: str) -> str:
        word, _, rest = prompt.partition(" ")
        await asyncio.sleep(float(str(self.options.args.get("pause_s", 0))))
        if word in {"hang", "wait", "die-with"}:
            await self._wait(word, rest)
        elif word == "large":
            return "x" * int(rest)
        elif word in _DEEDS:
            _DEEDS[word](self, rest)
        return prompt

    async def _wait(self, word: str, rest: str) -> None:
        if word == "die-with":
            await asyncio.sleep(0)
            if self.in_flight >= int(rest.partition(" ")[0]):
                os._exit(9)
        if word == "hang":
            await asyncio.Event().wait()
        while word == "wait" and not self.path("gate").exists():  # noqa: ASYNC110 - a file tells no event
            await asyncio.sleep(0.01)

    def path(self, name: str) -> Path:
        """Of a file that the options name."""
        return Path(str(self.options.args[name]))

    def note(self, sentence: str) -> None:
        """As an engine whose batch does not fit."""
        self._host.note(sentence)

    def _write(self, line: str) -> None:
        if diary := self.options.args.get("diary"):
            with Path(str(diary)).open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')} {line}\n")

    async def close(self) -> None:
        """Says so."""
        with contextlib.suppress(OSError):
            self._write("close")


def _die_once(engine: EchoEngine, _: str) -> None:
    if not engine.path("died").exists():
        engine.path("died").touch()
        os._exit(9)


def _raise(_: EchoEngine, text: str) -> None:
    raise RuntimeError(text)


def _print(_: EchoEngine, text: str) -> None:
    print(text)
    os.write(1, b"\x00garbage\xff\n")


_DEEDS: Mapping[str, Callable[[EchoEngine, str], object]] = {
    "die": lambda *_: os._exit(9),
    "die-once": _die_once,
    "raise": _raise,
    "print": _print,
    "note": EchoEngine.note,
    "stuck": lambda *_: time.sleep(3600),
}


async def open_echo(options: EngineOptions, host: Host) -> EchoEngine:
    """Refuses a folder without `config.json`; `args.fail`: `raise`, `die`, `killed-once`, `soon` after it."""
    model = Path(options.model)
    if not (model / "config.json").exists():
        raise EngineError(f"The folder {options.model} has no config.json, so it holds no model.", "model.model")
    await asyncio.sleep(float(str(options.args.get("load_s", 0))))
    how = options.args.get("fail")
    if how == "raise":
        raise RuntimeError("the weights are of no use")
    if how == "killed-once" and not (mark := model / "killed").exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "die":
        os.write(2, b"Segmentation fault, or the like\n")
        os._exit(11)
    if how == "soon":
        asyncio.get_running_loop().call_later(0.02, os._exit, 12)
    return EchoEngine(options, host)
