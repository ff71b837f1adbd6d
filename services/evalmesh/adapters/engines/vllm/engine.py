"""The engine `vllm`: vLLM's asynchronous engine in this process, and its workers in processes of theirs."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from evalmesh.adapters.engines.engine import EngineError, EngineOptions, EngineRequest, Host
from evalmesh.adapters.engines.model_files import sources_of
from evalmesh.adapters.engines.options import VllmArgs
from evalmesh.adapters.engines.texts import Refused, Texts, load_tokenizer, said_by
from evalmesh.adapters.engines.vllm import arguments, likelihood
from evalmesh.adapters.engines.vllm.answers import Gathered
from evalmesh.adapters.engines.vllm.overheard import Overheard
from evalmesh.adapters.engines.vllm.parsing import Parsed, Parsers, check_names
from evalmesh.adapters.engines.vllm.sampling import Wish, read_wish
from evalmesh.domain.completion import Completion, CompletionError, ContinuationScore, Timing, Usage
from evalmesh.domain.needs import TEXT, Capabilities
from evalmesh.domain.request import Request, RequestKind

_CLOSE_S = 2.0
_MOST_CHARS = 1000


async def open_vllm(options: EngineOptions, host: Host) -> "VllmEngine":
    """See `OpenEngine`."""
    arguments.prepare_environment()
    overheard = Overheard()
    args = msgspec.convert(options.args, VllmArgs)
    try:
        llm, context = _start(options.model, args)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(_why_not(error, overheard), "model.model") from error
    engine = VllmEngine(options.model, args, _Started(llm, context, overheard), host)
    await engine.load_adapter()
    await engine.try_out()
    return engine


@dataclass(frozen=True, slots=True)
class _Started:
    """vLLM's engine, loaded."""

    llm: Any
    context: int
    """Tokens that a prompt and its answer may have together."""
    overheard: Overheard


def _start(model_name: str, args: VllmArgs) -> tuple[Any, int]:
    """The engine, and how many tokens its model reads at most."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - seconds, and only in the child
    from vllm.platforms import current_platform  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    chosen = arguments.engine_arguments(model_name, args, AsyncEngineArgs)
    check_names(args.reasoning_parser, args.tool_call_parser)
    if current_platform.is_cpu():
        chosen |= arguments.cpu_cache(chosen)
    model = AsyncEngineArgs(**chosen).create_engine_config().model_config
    if chosen["dtype"] == "auto":
        chosen["dtype"] = arguments.checkpoint_dtype(model.hf_config)
    context = arguments.readable(model.hf_config, int(model.max_model_len))
    arguments.allow_one_more()
    return AsyncLLM.from_engine_args(AsyncEngineArgs(**chosen | {"max_model_len": context + 1})), context


def _why_not(error: Exception, overheard: Overheard) -> str:
    text = str(error)
    if "root cause" in text or "failed to start" in text:
        text = overheard.cause() or text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # pydantic says how many errors there are first, and shows the whole input after the sentence
    said = next((line for line in lines if line.startswith(("Value error, ", "Assertion failed, "))), " ".join(lines))
    said = said.removeprefix("Value error, ").removeprefix("Assertion failed, ").partition(" [type=")[0]
    return f"vLLM cannot load the model: {said[:_MOST_CHARS]}"


class VllmEngine:
    """See `Engine`. vLLM batches by itself, so every request goes to it as it comes."""

    def __init__(self, model: str, args: VllmArgs, started: _Started, host: Host) -> None:
        """Raises `EngineError`."""
        self._llm = llm = started.llm
        self._context = started.context
        self._overheard = started.overheard
        self._host = host
        self._numbers = count()
        self._model = model
        self._args = args
        self._lora = _lora_request(args.lora)
        self._defaults = _defaults(llm.model_config)
        self._texts = Texts(load_tokenizer(model, args), args, forces_calls=bool(args.tool_call_parser))
        self._parsers = Parsers(args.reasoning_parser, args.tool_call_parser, llm.get_tokenizer(), llm.model_config)

    async def load_adapter(self) -> None:
        """Now, so that one that does not fit is found before the first request. Raises `EngineError`."""
        if self._lora is None:
            return
        try:
            loaded = await self._llm.add_lora(self._lora)
        except Exception as error:
            said = self._overheard.cause() or said_by(error)
            raise EngineError(f"vLLM cannot load the adapter: {said}", arguments.LORA) from error
        if not loaded:
            raise EngineError("vLLM did not load the adapter.", arguments.LORA)

    async def try_out(self) -> None:
        """One token: some models can be loaded and not be run. Raises `EngineError`."""
        from vllm import SamplingParams, TokensPrompt  # noqa: PLC0415

        params, prompt = SamplingParams(max_tokens=1, temperature=0.0), TokensPrompt(prompt_token_ids=[0])
        try:
            async for _ in self._llm.generate(prompt, params, "first", lora_request=self._lora):
                pass
        except Exception as error:
            said = self._overheard.cause() or said_by(error)
            raise EngineError(f"vLLM loads the model and cannot run it: {said}", "model.model") from error

    def describe(self) -> Capabilities:
        kinds: set[RequestKind] = {"completion", "loglikelihood"}
        if self._texts.chats:
            kinds.add("chat")
        return Capabilities(
            frozenset(kinds),
            modalities=TEXT,
            logprobs=True,
            tools=self._parsers.reads_tools and self._texts.takes_tools,
            max_context_tokens=self._context,
            preferred_batch=self._llm.vllm_config.scheduler_config.max_num_seqs,
        )

    def sources(self) -> Sequence[Path]:
        return [*sources_of(self._model, self._args), *([Path(self._args.lora)] if self._args.lora else [])]

    async def answer(self, request: EngineRequest) -> Completion:
        asked = request.request
        try:
            if asked.kind == "loglikelihood":
                return await self._score(asked)
            return await self._generate(request)
        except Exception as error:
            if not isinstance(error, (Refused, ValueError, TypeError, *_refusals())):
                raise
            message = " ".join(str(error).split())[:_MOST_CHARS]
            failed = CompletionError("bad_request", message)
            return Completion(asked.sample_id, asked.repeat, asked.digest, error=failed)

    async def _generate(self, question: EngineRequest) -> Completion:
        request, started = question.request, time.time()
        clock, first = time.perf_counter(), None
        wish = read_wish(question, self._defaults)
        variables = self._texts.variables(question.config)
        prompt = self._texts.prompt(request, question.config)
        room = self._context - len(prompt)
        if room < 1:
            raise Refused(
                f"The prompt has {len(prompt)} tokens, and the model holds {self._context} of prompt and answer "
                "together (--model-args max_length=N says otherwise)."
            )
        reading = self._parsers.begin(request, variables)
        params = _sampling_params(wish, min(wish.max_tokens or room, room), reading.sampling if reading else {})
        also = reading.generating(prompt, variables) if reading else {}
        gathered = Gathered()
        async for output in self._outputs(prompt, params, also):
            first = first or time.perf_counter() - clock
            gathered.add(output, wish.sampling.get("logprobs"))
        text = "".join(gathered.text)
        parsed = reading.read(text, gathered.token_ids, prompt) if reading else Parsed(text)
        return gathered.completion(request, parsed, Timing(started, time.perf_counter() - clock, first))

    async def _score(self, request: Request) -> Completion:
        """All pieces at once: vLLM orders them."""
        cut = list(likelihood.pieces_of(request, self._texts, self._context))
        outputs = await asyncio.gather(*(asyncio.gather(*map(self._read, pieces)) for pieces in cut))
        scores: list[ContinuationScore] = [
            likelihood.score(text, pieces, found)
            for text, pieces, found in zip(request.continuations, cut, outputs, strict=True)
        ]
        read = sum(len(likelihood.prompt_of(piece)) for pieces in cut for piece in pieces)
        return Completion(
            request.sample_id,
            request.repeat,
            request.digest,
            finish_reason="stop",
            continuations=tuple(scores),
            usage=Usage(input_tokens=read, output_tokens=0),
        )

    async def _read(self, piece: likelihood.Piece) -> Any:
        from vllm import SamplingParams  # noqa: PLC0415
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

        params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **likelihood.options_of(piece))
        async for output in self._outputs(likelihood.prompt_of(piece), params, {}):
            found = output
        return found

    async def _outputs(self, prompt: list[int], params: Any, also: Mapping[str, Any]) -> AsyncIterator[Any]:
        """What vLLM says to a prompt. Cancelled, the request leaves its batch."""
        from vllm.inputs import TokensPrompt  # noqa: PLC0415
        from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415

        stream = self._llm.generate(
            TokensPrompt(prompt_token_ids=prompt), params, str(next(self._numbers)), lora_request=self._lora, **also
        )
        try:
            async for output in stream:
                self._host.progress()
                yield output
        except EngineDeadError:
            self._die()

    def _die(self) -> NoReturn:
        """A process can be started anew, and vLLM in it cannot."""
        why = self._overheard.cause()
        self._overheard.say_last(f"vLLM's engine died{f': {why}' if why else ', and did not say why'}")
        os._exit(1)  # whoever started us ends what is left of our group

    async def close(self) -> None:
        self._llm.shutdown(timeout=_CLOSE_S)


def _sampling_params(wish: Wish, max_tokens: int, parser: Mapping[str, Any]) -> Any:
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: PLC0415

    fields = {**parser, **wish.sampling}
    if wish.guided:
        fields["structured_outputs"] = StructuredOutputsParams(**wish.guided)
    return SamplingParams(**fields, max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA)


def _defaults(model_config: Any) -> Mapping[str, Any]:
    """Of sampling, as the model's generation_config.json and Transformers have them: greedy where nothing is said."""
    said = {**(model_config.try_get_generation_config() or {}), **(model_config.override_generation_config or {})}
    defaults = dict(model_config.get_diff_sampling_param())
    return defaults if said.get("do_sample") else {**defaults, "temperature": 0.0}


def _lora_request(folder: str) -> Any:
    if not folder:
        return None
    from vllm.lora.request import LoRARequest  # noqa: PLC0415

    return LoRARequest("adapter", 1, folder)


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it does not take, beside `ValueError`."""
    from vllm.exceptions import VLLMClientError  # noqa: PLC0415

    return (VLLMClientError,)
