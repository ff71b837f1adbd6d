"""The engine `transformers`: a model of the library of that name, and the one thread that runs it."""

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch

from evalmesh.adapters.engines.engine import EngineOptions, EngineRequest, Host
from evalmesh.adapters.engines.model_files import sources_of
from evalmesh.adapters.engines.options import TransformersArgs
from evalmesh.adapters.engines.texts import Refused, Texts
from evalmesh.adapters.engines.transformers.budget import Budget
from evalmesh.adapters.engines.transformers.decoding import Decoder
from evalmesh.adapters.engines.transformers.forward import Forward
from evalmesh.adapters.engines.transformers.likelihood import Judge, Judging, Piece, Text
from evalmesh.adapters.engines.transformers.loading import Loaded, load
from evalmesh.adapters.engines.transformers.sampling import Chooser
from evalmesh.adapters.engines.transformers.wishes import Wishes
from evalmesh.adapters.engines.transformers.writing import Task, Writing
from evalmesh.domain.completion import Completion
from evalmesh.domain.needs import TEXT, Capabilities
from evalmesh.domain.request import RequestKind

_GATHER_S = 0.003
"""An idle engine waits so long for the next request to come, so that the first batch is no batch of one."""
_MOST_GATHERS = 10
_STEPS = 16
"""Tokens of answers between two batches of log-likelihoods, where there are both."""
_LONGER = " (--model-args max_length=N says otherwise)."

Tell = Callable[[Completion], None]


async def open_transformers(options: EngineOptions, host: Host) -> "TransformersEngine":
    """See `OpenEngine`."""
    args = msgspec.convert(options.args, TransformersArgs)
    return TransformersEngine(options, args, load(options.model, args), host)


class TransformersEngine:
    """Implements `Engine`."""

    def __init__(self, options: EngineOptions, args: TransformersArgs, loaded: Loaded, host: Host) -> None:
        self._name = options.model
        self._args = args
        self._loaded = loaded
        self._texts = Texts(loaded.tokenizer, args)
        self._wishes = Wishes(loaded.model.generation_config, loaded.ends)
        forward = Forward(loaded.model)
        self._budget = Budget(loaded.model, args, options.concurrency, forward.device, host)
        self._worker = _Worker(Decoder(forward, self._texts, self._budget), Judge(forward, self._budget), host)
        self._reader = ThreadPoolExecutor(1, "tokenizer")

    def describe(self) -> Capabilities:
        kinds: set[RequestKind] = {"completion", "loglikelihood"}
        if self._texts.chats:
            kinds.add("chat")
        return Capabilities(
            frozenset(kinds),
            streaming=False,
            modalities=TEXT,
            logprobs=True,
            tools=self._texts.takes_tools,
            max_context_tokens=self._loaded.context,
            # Twice as many as are worked on: those that wait are sorted by length.
            preferred_batch=2 * self._budget.rows,
        )

    def sources(self) -> Sequence[Path]:
        return sources_of(self._name, self._args)

    async def answer(self, request: EngineRequest) -> Completion:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()

        def hear(completion: Completion) -> None:
            if not future.done():
                future.set_result(completion)

        def tell(completion: Completion) -> None:
            loop.call_soon_threadsafe(hear, completion)

        task = await loop.run_in_executor(self._reader, self._read, request, tell)
        if task is not None:
            self._worker.add(task)
        try:
            return await future
        finally:
            # A wait that is cancelled has cancelled the future, too.
            if task is not None and (future.cancelled() or not future.done()):
                task.forgotten = True

    async def close(self) -> None:
        self._reader.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._worker.close)

    def _read(self, asked: EngineRequest, tell: Tell) -> Task | None:
        """The request as tokens; `None` when it cannot be answered and was told so."""
        try:
            if asked.request.kind == "loglikelihood":
                return self._judging(asked, tell)
            return self._writing(asked, tell)
        except Refused as refused:
            Task(request=asked.request, tell=tell).fail(str(refused))
            return None

    def _writing(self, asked: EngineRequest, tell: Tell) -> Writing:
        request, context = asked.request, self._loaded.context
        if request.kind not in ("chat", "completion"):
            raise Refused(f"The engine transformers answers no {request.kind} requests.")
        wish = self._wishes.read(asked)
        prompt = self._texts.prompt(request, asked.config)
        room = context - len(prompt)
        if room < 1:
            raise Refused(
                f"The prompt has {len(prompt)} tokens, and the model holds {context} of prompt and answer together"
                f"{_LONGER}"
            )
        limit = room if wish.max_tokens is None else max(1, min(room, wish.max_tokens))
        return Writing(request=request, tell=tell, chooser=Chooser(wish, prompt), limit=limit)

    def _judging(self, asked: EngineRequest, tell: Tell) -> Judging:
        request, context = asked.request, self._loaded.context
        texts = []
        for before, after in request.pairs:
            if request.rolling:
                pieces = [Piece(*window) for window in self._texts.windows(after, context)]
            else:
                pieces = [Piece(*self._texts.pair(before, after))]
                fed = len(pieces[0].context) + len(pieces[0].tokens) - 1
                if fed > context:
                    raise Refused(
                        f"The prompt and a continuation have {fed + 1} tokens together, and the model holds {context}"
                        f"{_LONGER}"
                    )
            texts.append(Text(pieces, len(after.encode())))
        return Judging(request=request, tell=tell, texts=texts)


class _Worker:
    """The thread that runs the model: takes what has come, and works on it batch by batch and step by step."""

    def __init__(self, decoder: Decoder, judge: Judge, host: Host) -> None:
        self._decoder = decoder
        self._judge = judge
        self._host = host
        self._come: list[Task] = []
        self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def add(self, task: Task) -> None:
        """From any thread."""
        with self._news:
            self._come.append(task)
            self._news.notify()

    def close(self) -> None:
        """Ends it after the step under way."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while self._take():
                try:
                    self._work()
                except Exception as error:  # noqa: BLE001 - what a model's code raises must not end the thread
                    traceback.print_exc()
                    message = f"The model failed with {type(error).__name__}: {' '.join(str(error).split())}"
                    self._decoder.fail_all(message)
                    self._judge.fail_all(message)
                self._host.progress()

    def _work(self) -> None:
        if self._judge.busy:
            self._judge.step()
        for _ in range(_STEPS if self._judge.busy else 1):
            if not self._decoder.busy:
                break
            self._decoder.step()

    def _take(self) -> bool:
        """Hands over what has come; waits when there is nothing to do. `False` once it is closed."""
        idle = not (self._decoder.busy or self._judge.busy)
        with self._news:
            while idle and not self._come and not self._closed:
                self._news.wait()
        if idle:
            self._gather()
        with self._news:
            come, self._come = self._come, []
        if come:
            self._decoder.add(one for one in come if isinstance(one, Writing))
            self._judge.add(one for one in come if isinstance(one, Judging))
        return not self._closed

    def _gather(self) -> None:
        """Until no more come for a moment."""
        for _ in range(_MOST_GATHERS):
            before = len(self._come)
            time.sleep(_GATHER_S)
            if len(self._come) == before:
                return
