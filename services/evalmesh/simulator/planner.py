"""From a request body to the plan of its answer."""

import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from evalmesh.simulator.brain import Brain, Question
from evalmesh.simulator.faults import Fault
from evalmesh.simulator.generation import Part, Plan, choice_of
from evalmesh.simulator.images_api import ImagesBody, ImagesShape, read_images
from evalmesh.simulator.knowledge import Knowledge
from evalmesh.simulator.logprobs import score_tokens
from evalmesh.simulator.messages_api import MessagesShape, read_messages
from evalmesh.simulator.pooling import (
    EmbeddingsBody,
    EmbeddingsShape,
    RerankBody,
    RerankShape,
    read_embeddings,
    read_rerank,
)
from evalmesh.simulator.render import Limits
from evalmesh.simulator.responses_api import ResponsesShape, read_responses
from evalmesh.simulator.schema import (
    ChatBody,
    Choice,
    CompletionBody,
    Head,
    Usage,
    read_chat,
    read_completion,
    read_tokenize,
    texts_of,
)
from evalmesh.simulator.settings import DEFAULT_MODEL, LikelihoodForm, RerankForm, SimulatorSettings
from evalmesh.simulator.sglang_api import GenerateShape, read_generate
from evalmesh.simulator.shapes import OpenAiShape, Shape, StreamShape
from evalmesh.simulator.tokens import TokenCounter, count_tokens, token_id, tokenize
from evalmesh.simulator.tools import call_of, demanded

_COMPLETION_MAX_TOKENS = 16
_ID_PREFIXES = {
    "chat": "chatcmpl",
    "completions": "cmpl",
    "responses": "resp",
    "embeddings": "embd",
    "rerank": "rerank",
    "images": "img",
    "messages": "msg",
    "generate": "gen",
}


_TextBody = CompletionBody | EmbeddingsBody | RerankBody | ImagesBody


def _completion(data: bytes) -> tuple[_TextBody, tuple[str, ...]]:
    body = read_completion(data)
    return body, body.texts


def _generate(data: bytes) -> tuple[_TextBody, tuple[str, ...]]:
    body = read_generate(data)
    return body, body.texts


def _embeddings(data: bytes) -> tuple[_TextBody, tuple[str, ...]]:
    body = read_embeddings(data)
    return body, texts_of(body.input)


def _images(data: bytes) -> tuple[_TextBody, tuple[str, ...]]:
    body = read_images(data)
    return body, (body.prompt,)


_CHATS: Mapping[str, Callable[[bytes], ChatBody]] = {
    "chat": read_chat,
    "responses": read_responses,
    "messages": read_messages,
}
_TEXTS: Mapping[str, Callable[[bytes], tuple[_TextBody, tuple[str, ...]]]] = {
    "completions": _completion,
    "generate": _generate,
    "embeddings": _embeddings,
    "images": _images,
}


@dataclass(frozen=True, slots=True)
class Prompted:
    """A request body, read and understood."""

    endpoint: str
    """`chat`, `completions`, `responses`, `messages`, `generate`, `embeddings`, `rerank`, `images`."""
    body: ChatBody | _TextBody
    texts: tuple[str, ...]
    """What is asked: the last user message, or each prompt."""
    questions: tuple[Question, ...]
    seed: int
    n_prompt_tokens: int
    n_images: int = 0
    version: str = ""
    """Of the API, where several share an endpoint."""

    @property
    def is_stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.body.stream)


class Planner:
    """Decides everything about an answer before its first byte."""

    def __init__(self, settings: SimulatorSettings, knowledge: Knowledge) -> None:
        self._settings = settings
        self._brain = Brain(settings, knowledge)
        self._counter = TokenCounter()
        self._instance = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._takes_time = not (settings.ttft.is_zero and settings.itl.is_zero)

    def read(self, endpoint: str, data: bytes, version: str = "") -> Prompted:
        """Raises `InvalidInput` for bodies that cannot be answered."""
        if endpoint in _CHATS:
            return self._read_chat(endpoint, _CHATS[endpoint](data))
        if endpoint in _TEXTS:
            body, texts = _TEXTS[endpoint](data)
            return self._prompted(endpoint, body, texts)
        ranked = read_rerank(data)
        # A pair per document, as a cross-encoder reads them; fates are decided for the whole.
        n_query = self._counter.count(ranked.query)
        n_tokens = sum(n_query + self._counter.count(text) for text in ranked.texts)
        prompted = self._prompted(endpoint, ranked, ("\n".join((ranked.query, *ranked.texts)),))
        return replace(prompted, n_prompt_tokens=n_tokens, version=version)

    def _prompted(self, endpoint: str, body: _TextBody, texts: tuple[str, ...]) -> Prompted:
        questions = tuple(self._brain.understand(text) for text in texts)
        n_tokens = sum(question.n_tokens for question in questions)
        return Prompted(endpoint, body, texts, questions, body.seed or 0, n_tokens)

    def tokenize(self, data: bytes) -> list[int]:
        """The token ids of a prompt or a chat, the template's included. Raises `InvalidInput`."""
        asked = read_tokenize(data)
        if isinstance(asked, str):
            return [token_id(token) for token in tokenize(asked)]
        ids = [token_id(token) for message in asked for token in tokenize(message.text)]
        return [0] * self._settings.template_tokens + ids

    def _read_chat(self, endpoint: str, body: ChatBody) -> Prompted:
        messages = body.messages
        asked = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), len(messages) - 1)
        text = messages[asked].text
        if body.prompt_logprobs is not None and asked < len(messages) - 1:
            text += messages[-1].text  # What the assistant is made to say is judged with what it is said to.
        question = self._brain.understand(text)
        others = sum(self._counter.count(message.text) for i, message in enumerate(messages) if i != asked)
        n_tokens = question.n_tokens + others + self._settings.template_tokens
        n_images = sum(message.n_images for message in messages)
        return Prompted(endpoint, body, (text,), (question,), body.seed or 0, n_tokens, n_images)

    def plan(self, prompted: Prompted, fault: Fault | None, tries: int) -> Plan:
        """The answer.

        Args:
            prompted: The request.
            fault: What will go wrong on the way.
            tries: How often this was asked, this time included: latencies differ from try to try, answers where they
                are sampled without a seed.
        """
        body = prompted.body
        if isinstance(body, EmbeddingsBody | RerankBody | ImagesBody):
            parts = tuple(Part(question, Choice("", "stop"), None, 0) for question in prompted.questions)
        else:
            pairs = zip(prompted.texts, prompted.questions, strict=True)
            body = self._as_able(body, prompted.endpoint)
            seed = _seed_of_answers(body, tries)
            parts = tuple(self._part(body, text, question, seed) for text, question in pairs)
        if fault is not None and fault.kind == "empty":
            parts = tuple(replace(part, choice=Choice("", "stop"), n_tokens=0) for part in parts)
        reasoning = sum(count_tokens(part.choice.reasoning) for part in parts if part.choice.reasoning)
        rng = self._brain.rng("latency", prompted.questions[0], prompted.seed, tries) if self._takes_time else None
        streamed = self._stream_shape(prompted)
        return Plan(
            shape=streamed or self._whole_shape(prompted, is_empty=fault is not None and fault.kind == "empty"),
            streamed=streamed if prompted.is_stream else None,
            parts=parts,
            usage=self._usage(prompted, sum(part.n_tokens for part in parts), reasoning),
            seed=prompted.seed,
            fault=fault,
            rng=rng,
        )

    def _id(self, prompted: Prompted) -> str:
        return f"{_ID_PREFIXES[prompted.endpoint]}-{self._instance}{next(self._numbers):08x}"

    def _stream_shape(self, prompted: Prompted) -> StreamShape | None:
        body = prompted.body
        if isinstance(body, EmbeddingsBody | RerankBody | ImagesBody) or prompted.endpoint == "generate":
            return None
        head = Head(self._id(prompted), int(time.time()), body.model or DEFAULT_MODEL, prompted.endpoint == "chat")
        if prompted.endpoint == "responses":
            return ResponsesShape(head, self._settings.tokens_per_chunk)
        if prompted.endpoint == "messages":
            return MessagesShape(head, self._settings.tokens_per_chunk)
        return OpenAiShape(head, body.wants_usage_chunk, body.wants_usage_always, self._settings.tokens_per_chunk)

    def _whole_shape(self, prompted: Prompted, *, is_empty: bool) -> Shape:
        body = prompted.body
        if isinstance(body, RerankBody):
            form: RerankForm = "cohere" if prompted.version == "2" else self._settings.rerank_form
            return RerankShape(self._id(prompted), body, form, prompted.version or "1", is_empty=is_empty)
        if isinstance(body, ImagesBody):
            return ImagesShape(body, int(time.time()), is_empty=is_empty)
        if isinstance(body, CompletionBody):
            return GenerateShape(Head(self._id(prompted), int(time.time()), body.model, is_chat=False), body.is_list)
        return EmbeddingsShape(cast("EmbeddingsBody", body), is_empty=is_empty)

    def _usage(self, prompted: Prompted, n_tokens: int, n_reasoning: int) -> Usage:
        cached = int(prompted.n_prompt_tokens * self._settings.cached_share)
        return Usage(prompted.n_prompt_tokens, n_tokens, n_reasoning, cached)

    def _part(self, body: ChatBody | CompletionBody, text: str, question: Question, seed: int) -> Part:
        limits = self._limits(body, question, seed)
        if isinstance(body, CompletionBody) and (body.echo or body.logprobs is not None):
            return self._detailed_part(body, text, question, limits, seed)
        if body.prompt_logprobs is not None:
            return self._told_part(text, question, limits, seed)
        if isinstance(body, ChatBody) and (function := demanded(body.tools or (), body.tool_choice)) is not None:
            return self._call_part(function, question, seed)
        reply = self._brain.reply(question, seed, limits)
        n_tokens = count_tokens(reply.text) + (count_tokens(reply.reasoning) if reply.reasoning else 0)
        return Part(question, choice_of(reply), reply.outcome, n_tokens, cut=reply.cut)

    def _call_part(self, function: Mapping[str, Any], question: Question, seed: int) -> Part:
        """A call in place of a text; its texts are the bare answer that the model would give."""
        outcome, answer = self._brain.outcome(question, seed), question.answer
        said = [] if answer is None else [answer.right] if outcome == "right" else list(answer.wrong)
        call = call_of(function, f"call-{question.digest.hex()[:12]}", said[0].value if said else "text")
        choice = Choice("", "tool_calls", calls=(call,))
        return Part(question, choice, outcome, count_tokens(call.name) + count_tokens(call.arguments))

    def _as_able(self, body: ChatBody | CompletionBody, endpoint: str) -> ChatBody | CompletionBody:
        """Without what this server does not know, which it ignores as real ones do."""
        form: LikelihoodForm = "generate" if endpoint == "generate" else "prompt_logprobs"
        if body.prompt_logprobs is not None and form not in self._settings.likelihoods:
            body = msgspec.structs.replace(body, prompt_logprobs=None)
        if isinstance(body, CompletionBody) and body.echo and "echo" not in self._settings.likelihoods:
            body = msgspec.structs.replace(body, echo=None, logprobs=None)
        return body

    def _told_part(self, text: str, question: Question, limits: Limits, seed: int) -> Part:
        """An answer with what its prompt is worth beside it: a log-likelihood question."""
        scored = self._brain.score(text, question, seed)
        reply = self._brain.reply(question, seed, limits)
        choice = replace(choice_of(reply), prompt_logprobs=scored.tokens)
        return Part(question, choice, scored.outcome, count_tokens(reply.text), cut=reply.cut, is_scored=True)

    def _detailed_part(self, body: CompletionBody, text: str, question: Question, limits: Limits, seed: int) -> Part:
        """Echo, log probabilities, or both. An echoed prompt with its logprobs is a log-likelihood question."""
        wants_logprobs = body.logprobs is not None
        top = body.logprobs or 0
        is_scored = bool(body.echo) and wants_logprobs
        tokens = []
        outcome = None
        if is_scored:
            scored = self._brain.score(text, question, seed)
            tokens, outcome = scored.tokens, scored.outcome
        if limits.max_tokens == 0:
            generated, finish, cut = "", "length", False
        else:
            reply = self._brain.reply(question, seed, limits)
            generated, finish, cut = reply.text, reply.finish_reason, reply.cut
            outcome = outcome if is_scored else reply.outcome
        if wants_logprobs:
            offset = len(text) if is_scored else 0
            added = score_tokens(generated, None, None, question.digest.hex(), "generated")
            for token in added:
                tokens.append(token.moved(offset))
        shown = text + generated if body.echo else generated
        choice = Choice(shown, finish, logprobs=tokens if wants_logprobs else None, top_logprobs=top)
        return Part(question, choice, outcome, count_tokens(generated), cut=cut, is_scored=is_scored)

    def _limits(self, body: ChatBody | CompletionBody, question: Question, seed: int) -> Limits:
        max_tokens = body.max_tokens
        if isinstance(body, ChatBody):
            max_tokens = max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        elif max_tokens is None:
            max_tokens = _COMPLETION_MAX_TOKENS
        if body.ignore_eos and max_tokens:
            return Limits(max_tokens, body.stops, exact_tokens=max_tokens, exact_is_length=True)
        wanted = self._brain.output_tokens(question, seed)
        if wanted is not None and max_tokens is not None:
            wanted = min(wanted, max_tokens)
        return Limits(max_tokens, body.stops, exact_tokens=wanted)


def _seed_of_answers(body: ChatBody | CompletionBody, tries: int) -> int:
    """The seed that is said; with a temperature and none, which is sampling, the n-th answer is that of seed n - 1."""
    if body.seed is not None or not body.temperature:
        return body.seed or 0
    return tries - 1
