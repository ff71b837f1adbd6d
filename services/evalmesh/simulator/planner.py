"""From a request body to the plan of its answer."""

import itertools
import secrets
import time
from dataclasses import dataclass, replace

from evalmesh.simulator.brain import Brain, Question
from evalmesh.simulator.faults import Fault
from evalmesh.simulator.generation import Part, Plan, choice_of
from evalmesh.simulator.knowledge import Knowledge
from evalmesh.simulator.logprobs import score_tokens
from evalmesh.simulator.render import Limits
from evalmesh.simulator.schema import (
    ChatBody,
    Choice,
    CompletionBody,
    Head,
    Usage,
    read_chat,
    read_completion,
)
from evalmesh.simulator.settings import DEFAULT_MODEL, SimulatorSettings
from evalmesh.simulator.shapes import OpenAiShape
from evalmesh.simulator.tokens import TokenCounter, count_tokens

_COMPLETION_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Prompted:
    """A request body, read and understood."""

    endpoint: str
    """`chat`, `completions`."""
    body: ChatBody | CompletionBody
    texts: tuple[str, ...]
    """What is asked: the last user message, or each prompt."""
    questions: tuple[Question, ...]
    seed: int
    n_prompt_tokens: int
    n_images: int = 0


class Planner:
    """Decides everything about an answer before its first byte."""

    def __init__(self, settings: SimulatorSettings, knowledge: Knowledge) -> None:
        self._settings = settings
        self._brain = Brain(settings, knowledge)
        self._counter = TokenCounter()
        self._instance = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._takes_time = not (settings.ttft.is_zero and settings.itl.is_zero)

    def read(self, data: bytes, *, is_chat: bool) -> Prompted:
        """Raises `InvalidInput` for bodies that cannot be answered."""
        if is_chat:
            return self._read_chat(read_chat(data))
        body = read_completion(data)
        texts = body.texts
        questions = tuple(self._brain.understand(text) for text in texts)
        n_tokens = sum(question.n_tokens for question in questions)
        return Prompted("completions", body, texts, questions, body.seed or 0, n_tokens)

    def _read_chat(self, body: ChatBody) -> Prompted:
        messages = body.messages
        asked = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), len(messages) - 1)
        text = messages[asked].text
        question = self._brain.understand(text)
        others = sum(self._counter.count(message.text) for i, message in enumerate(messages) if i != asked)
        n_tokens = question.n_tokens + others + self._settings.template_tokens
        n_images = sum(message.n_images for message in messages)
        return Prompted("chat", body, (text,), (question,), body.seed or 0, n_tokens, n_images)

    def plan(self, prompted: Prompted, fault: Fault | None, tries: int) -> Plan:
        """The answer.

        Args:
            prompted: The request.
            fault: What will go wrong on the way.
            tries: How often this was asked, this time included: latencies differ from try to try, answers do not.
        """
        body = prompted.body
        is_chat = isinstance(body, ChatBody)
        pairs = zip(prompted.texts, prompted.questions, strict=True)
        parts = tuple(self._part(body, text, question, prompted.seed) for text, question in pairs)
        if fault is not None and fault.kind == "empty":
            parts = tuple(replace(part, choice=Choice("", "stop"), n_tokens=0) for part in parts)
        reasoning = sum(count_tokens(part.choice.reasoning) for part in parts if part.choice.reasoning)
        head = Head(
            id=f"{'chatcmpl' if is_chat else 'cmpl'}-{self._instance}{next(self._numbers):08x}",
            created=int(time.time()),
            model=body.model or DEFAULT_MODEL,
            is_chat=is_chat,
        )
        rng = self._brain.rng("latency", prompted.questions[0], prompted.seed, tries) if self._takes_time else None
        return Plan(
            shape=OpenAiShape(head, body.wants_usage_chunk, body.wants_usage_always, self._settings.tokens_per_chunk),
            parts=parts,
            usage=self._usage(prompted, sum(part.n_tokens for part in parts), reasoning),
            seed=prompted.seed,
            is_stream=bool(body.stream),
            fault=fault,
            rng=rng,
        )

    def _usage(self, prompted: Prompted, n_tokens: int, n_reasoning: int) -> Usage:
        cached = int(prompted.n_prompt_tokens * self._settings.cached_share)
        return Usage(prompted.n_prompt_tokens, n_tokens, n_reasoning, cached)

    def _part(self, body: ChatBody | CompletionBody, text: str, question: Question, seed: int) -> Part:
        limits = self._limits(body, question, seed)
        if isinstance(body, CompletionBody) and (body.echo or body.logprobs is not None):
            return self._detailed_part(body, text, question, limits, seed)
        reply = self._brain.reply(question, seed, limits)
        n_tokens = count_tokens(reply.text) + (count_tokens(reply.reasoning) if reply.reasoning else 0)
        return Part(question, choice_of(reply), reply.outcome, n_tokens, cut=reply.cut)

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
