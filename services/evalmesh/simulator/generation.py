"""One generation request from its slot to its last byte, with the trouble it meets on the way."""

import asyncio
import random
from dataclasses import dataclass

from evalmesh.simulator.brain import Question
from evalmesh.simulator.distribution import Freeze
from evalmesh.simulator.faults import Fault
from evalmesh.simulator.http import Exchange
from evalmesh.simulator.render import Outcome, Reply
from evalmesh.simulator.schema import DONE, Choice, ChunkWriter, Head, Usage, full_body
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.tokens import tokenize

_PART_SENT = 0.5


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one prompt of a request, with what it means for the truth."""

    question: Question
    choice: Choice
    outcome: Outcome | None
    """`None`: a log-likelihood that does not decide its sample."""
    n_tokens: int
    cut: bool = False
    is_scored: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent, decided before the first byte."""

    head: Head
    parts: tuple[Part, ...]
    usage: Usage
    seed: int
    is_stream: bool
    wants_usage_chunk: bool
    fault: Fault | None
    rng: random.Random | None
    """For times; `None` when nothing takes any."""


def choice_of(reply: Reply) -> Choice:
    """A reply as it goes out."""
    return Choice(reply.text, reply.finish_reason, reply.reasoning)


class Pacer:
    """Waits as the latency settings say, counted from the start of the work so that delays do not add up."""

    def __init__(self, settings: SimulatorSettings, rng: random.Random | None, started_s: float) -> None:
        self._settings = settings
        self._rng = rng
        self._server_started_s = started_s
        self._loop = asyncio.get_running_loop()
        self._next_s = self._loop.time()

    async def first(self) -> None:
        """Until the first token."""
        if self._rng is not None:
            await self._until(self._settings.ttft.draw(self._rng))

    async def next(self) -> None:
        """Until the next token."""
        if self._rng is not None:
            await self._until(self._settings.itl.draw(self._rng))

    async def rest(self, n_tokens: int) -> None:
        """Until all further tokens of a reply are there."""
        if self._rng is not None and n_tokens > 0:
            await self._until(self._settings.itl.total(self._rng, n_tokens))

    async def pause(self, pause_s: float) -> None:
        """Stalls."""
        self._next_s = max(self._next_s, self._loop.time())
        await self._until(pause_s)

    async def _until(self, delay_s: float) -> None:
        self._next_s += delay_s
        wait_s = self._next_s - self._loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await self.thaw()

    async def thaw(self) -> None:
        """Waits while the server is frozen."""
        frozen_s = frozen_for_s(self._settings.freeze, self._loop.time() - self._server_started_s)
        if frozen_s > 0:
            await asyncio.sleep(frozen_s)


def frozen_for_s(freeze: Freeze | None, elapsed_s: float) -> float:
    """How long the server says nothing; 0 when it talks."""
    return freeze.remaining_s(elapsed_s) if freeze is not None else 0.0


def send_whole(plan: Plan, exchange: Exchange) -> bool:
    """Sends an answer in one piece; returns whether it went out as it should."""
    body = full_body(plan.head, [part.choice for part in plan.parts], plan.usage)
    kind = plan.fault.kind if plan.fault is not None else ""
    match kind:
        case "malformed":
            exchange.send(200, body[: int(len(body) * _PART_SENT)])
        case "truncated":
            exchange.send_part(body, _PART_SENT)
            exchange.abandon()
        case "reset":
            exchange.send_part(body, _PART_SENT)
            exchange.reset()
        case _:
            exchange.send(200, body)
            return True
    return False


async def serve_whole(plan: Plan, exchange: Exchange, pacer: Pacer) -> bool:
    """The same, after the time a model would need."""
    await pacer.first()
    if plan.fault is not None and plan.fault.kind == "stall":
        await pacer.pause(plan.fault.pause_s)
    await pacer.rest(sum(part.n_tokens for part in plan.parts) - 1)
    await pacer.thaw()
    return send_whole(plan, exchange)


def _token_events(plan: Plan, writer: ChunkWriter) -> list[bytes]:
    choice = plan.parts[0].choice
    events = [writer.token(token, is_reasoning=True) for token in tokenize(choice.reasoning)]
    events += [writer.token(token) for token in tokenize(choice.text)]
    return events


def _closing_events(plan: Plan, writer: ChunkWriter) -> list[bytes]:
    events = [writer.finish(plan.parts[0].choice.finish_reason)]
    if plan.wants_usage_chunk:
        events.append(writer.usage(plan.usage))
    return [*events, DONE]


def send_stream(plan: Plan, exchange: Exchange) -> bool:
    """Sends a stream at once: every chunk is there, none is waited for."""
    writer = ChunkWriter(plan.head, with_usage=plan.wants_usage_chunk)
    events = [writer.role()] if plan.head.is_chat else []
    events += _token_events(plan, writer)
    events += _closing_events(plan, writer)
    exchange.begin_stream()
    exchange.write_framed(b"".join(map(exchange.frame, events)))
    exchange.end()
    return True


async def serve_stream(plan: Plan, exchange: Exchange, pacer: Pacer) -> bool:
    """Streams token by token; returns whether the answer went out as it should."""
    writer = ChunkWriter(plan.head, with_usage=plan.wants_usage_chunk)
    events = _token_events(plan, writer)
    fault = plan.fault
    breaks_at = -1
    if fault is not None:
        breaks_at = min(len(events), len(events) // 2 if fault.after_tokens is None else fault.after_tokens)
    await pacer.thaw()
    exchange.begin_stream()
    if plan.head.is_chat:
        exchange.write(writer.role())
    for position, event in enumerate(events):
        await (pacer.first() if position == 0 else pacer.next())
        if position == breaks_at and fault is not None and not await _break(fault, exchange, pacer, event):
            return False
        exchange.write(event)
        await exchange.drained()
    if breaks_at == len(events) and fault is not None and not await _break(fault, exchange, pacer, DONE):
        return False
    for event in _closing_events(plan, writer):
        exchange.write(event)
    exchange.end()
    return not (fault is not None and fault.kind == "malformed")


async def _break(fault: Fault, exchange: Exchange, pacer: Pacer, event: bytes) -> bool:
    """Does the damage; returns whether the stream goes on."""
    match fault.kind:
        case "stall":
            await pacer.pause(fault.pause_s)
        case "malformed":
            exchange.write(event[: max(len(event) // 2, 7)] + b"\n\n")
        case "truncated":
            # The HTTP message is complete; only the end mark is missing.
            exchange.end()
            return False
        case _:
            exchange.reset()
            return False
    return True
