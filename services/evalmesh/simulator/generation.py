"""One generation request from its slot to its last byte, with the trouble it meets on the way."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from evalmesh.simulator.brain import Question
from evalmesh.simulator.distribution import Freeze
from evalmesh.simulator.faults import DELAYS, Fault
from evalmesh.simulator.http import Exchange
from evalmesh.simulator.render import Outcome, Reply
from evalmesh.simulator.schema import Choice, Content, Usage
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.shapes import Script, Shape, StreamShape, error_whole
from evalmesh.simulator.truth import Trace
from evalmesh.simulator.wheel import Wheel

_PART_SENT = 0.5


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one prompt of a request, with what it means for the truth."""

    question: Question
    choice: Choice
    outcome: Outcome | None
    """`None`: a log-likelihood that does not decide its sample, or an input that is no question."""
    n_tokens: int
    cut: bool = False
    is_scored: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent, decided before the first byte."""

    shape: Shape
    """Makes the bytes."""
    streamed: StreamShape | None
    """Makes the events, where a stream was asked for."""
    parts: tuple[Part, ...]
    usage: Usage
    seed: int
    fault: Fault | None
    rng: random.Random | None
    """For times; `None` when nothing takes any."""


def choice_of(reply: Reply) -> Choice:
    """A reply as it goes out."""
    return Choice(reply.text, reply.finish_reason, reply.reasoning)


class Pacer:
    """Waits as the latency settings say, counted from the start of the work so that delays do not add up."""

    def __init__(self, settings: SimulatorSettings, rng: random.Random | None, started_s: float, wheel: Wheel) -> None:
        self._settings = settings
        self._rng = rng
        self._server_started_s = started_s
        self._wheel = wheel
        self._next_s = time.monotonic()

    async def first(self) -> None:
        """Until the first token."""
        if self._rng is not None:
            await self._until(self._settings.ttft.draw(self._rng))

    async def rest(self, n_tokens: int) -> None:
        """Until all further tokens of a reply are there."""
        if self._rng is not None and n_tokens > 0:
            await self._until(self._settings.itl.total(self._rng, n_tokens))

    async def pause(self, pause_s: float) -> None:
        """Stalls."""
        self._next_s = max(self._next_s, time.monotonic())
        await self._until(pause_s)

    async def _until(self, delay_s: float) -> None:
        self._next_s += delay_s
        await self._wheel.sleep_until(self._next_s)
        await self.thaw()

    async def thaw(self) -> None:
        """Waits while the server is frozen."""
        now = time.monotonic()
        frozen_s = frozen_for_s(self._settings.freeze, now - self._server_started_s)
        if frozen_s > 0:
            await self._wheel.sleep_until(now + frozen_s)

    async def send(self, contents: Sequence[Content], exchange: Exchange, trace: Trace) -> None:
        """Sends these events, each after the time its tokens take."""
        position = 0
        while position < len(contents):
            run = _Run(self, contents, position, exchange, trace)
            position = await run.end()
            await exchange.drained()

    def step(self, content: Content) -> float:
        """When this content is due, given that all before it was asked for; 0 when it takes no time."""
        if self._rng is None:
            return 0.0
        self._next_s += self._settings.itl.total(self._rng, content[1])
        return self._next_s

    def due_after(self, due_s: float, now: float) -> float:
        """`due_s`, or when the server thaws; 0 when that has passed."""
        if due_s > now:
            return due_s
        freeze = self._settings.freeze
        frozen_s = frozen_for_s(freeze, now - self._server_started_s) if freeze is not None else 0.0
        return now + frozen_s if frozen_s > 0 else 0.0

    @property
    def wheel(self) -> Wheel:
        """What calls when time has come."""
        return self._wheel


class _Run:
    """Sends content event by event from the wheel's callbacks, until all is sent or the client reads too slowly."""

    __slots__ = ("_contents", "_due_s", "_end", "_exchange", "_pacer", "_position", "_trace")

    def __init__(
        self, pacer: Pacer, contents: Sequence[Content], position: int, exchange: Exchange, trace: Trace
    ) -> None:
        self._pacer = pacer
        self._contents = contents
        self._position = position
        self._exchange = exchange
        self._trace = trace
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._due_s = pacer.step(contents[position])

    async def end(self) -> int:
        """The position of the first event that is not sent yet."""
        self._turn()
        return await self._end

    def _turn(self) -> None:
        end, pacer = self._end, self._pacer
        while not end.done():
            wake_s = pacer.due_after(self._due_s, time.monotonic())
            if wake_s:
                pacer.wheel.at(wake_s, self._turn)
                return
            event, n_tokens = self._contents[self._position]
            self._trace.wrote(n_tokens)
            self._exchange.write(event)
            self._position += 1
            if self._position == len(self._contents) or not self._exchange.is_writable:
                end.set_result(self._position)
                return
            self._due_s = pacer.step(self._contents[self._position])


def frozen_for_s(freeze: Freeze | None, elapsed_s: float) -> float:
    """How long the server says nothing; 0 when it talks."""
    return freeze.remaining_s(elapsed_s) if freeze is not None else 0.0


def send(plan: Plan, exchange: Exchange, trace: Trace) -> bool:
    """Sends an answer that needs no time; returns whether it went out as it should."""
    if plan.streamed is not None:
        return _send_stream(plan, plan.streamed, exchange, trace)
    return _send_whole(plan, exchange, trace)


async def serve(plan: Plan, exchange: Exchange, pacer: Pacer, trace: Trace) -> bool:
    """The same, after the time a model would need."""
    if plan.streamed is not None:
        return await _serve_stream(plan, plan.streamed, exchange, pacer, trace)
    return await _serve_whole(plan, exchange, pacer, trace)


def _send_whole(plan: Plan, exchange: Exchange, trace: Trace) -> bool:
    """Sends an answer in one piece; returns whether it went out as it should."""
    kind = plan.fault.kind if plan.fault is not None else ""
    choices = [part.choice for part in plan.parts]
    if kind == "error_event":
        exchange.send(200, error_whole())
        return False
    if kind == "truncated":
        exchange.send(200, plan.shape.unfinished(choices))
        return False
    body = plan.shape.whole(choices, plan.usage)
    match kind:
        case "malformed":
            exchange.send(200, body[: int(len(body) * _PART_SENT)])
        case "cut":
            exchange.send_part(body, _PART_SENT)
            exchange.abandon()
        case "reset":
            exchange.send_part(body, _PART_SENT)
            exchange.reset()
        case _:
            trace.wrote(plan.usage.completion_tokens)
            exchange.send(200, body)
            return kind != "empty"
    return False


async def _serve_whole(plan: Plan, exchange: Exchange, pacer: Pacer, trace: Trace) -> bool:
    """The same, after the time a model would need."""
    await pacer.first()
    if plan.fault is not None and plan.fault.kind in DELAYS:
        await pacer.pause(plan.fault.pause_s)
    await pacer.rest(sum(part.n_tokens for part in plan.parts) - 1)
    await pacer.thaw()
    return _send_whole(plan, exchange, trace)


def _send_stream(plan: Plan, shape: StreamShape, exchange: Exchange, trace: Trace) -> bool:
    """Sends a stream at once: every chunk is there, none is waited for."""
    script = shape.script(plan.parts[0].choice, plan.usage, exchange.frame)
    exchange.begin_stream()
    contents = script.contents
    trace.wrote_at_once([n_tokens for _, n_tokens in contents])
    frame = exchange.frame
    exchange.end(script.opening + b"".join([frame(event) for event, _ in contents]) + script.closing)
    return True


async def _serve_stream(plan: Plan, shape: StreamShape, exchange: Exchange, pacer: Pacer, trace: Trace) -> bool:
    """Streams token by token; returns whether the answer went out as it should."""
    script = shape.script(plan.parts[0].choice, plan.usage, exchange.frame)
    contents = script.contents
    fault = plan.fault
    await pacer.thaw()
    if fault is not None and fault.kind == "slow_header":
        await pacer.pause(fault.pause_s)
    exchange.begin_stream()
    exchange.write_framed(script.opening)
    breaks_at = _place(fault, contents)
    if contents and breaks_at != 0:
        await pacer.first()
        first, before = contents[0], contents[1:breaks_at]
        trace.wrote(first[1])
        exchange.write(first[0])
        await pacer.send(before, exchange, trace)
    if fault is not None and breaks_at is not None:
        rest = contents[breaks_at:]
        await (pacer.first() if breaks_at == 0 else pacer.rest(1))
        if not await _break(fault, script, rest, exchange, pacer):
            return False
        if rest:
            trace.wrote(rest[0][1])
            exchange.write(rest[0][0])
            await pacer.send(rest[1:], exchange, trace)
    exchange.end(script.closing)
    return fault is None or fault.kind in DELAYS


def _place(fault: Fault | None, contents: Sequence[Content]) -> int | None:
    """How many events go out before the trouble; `None`: there is none in the middle."""
    if fault is None or fault.kind in {"slow_header", "empty"}:
        return None
    if fault.after_tokens is None:
        return len(contents) // 2
    sent = 0
    for position, content in enumerate(contents):
        if sent >= fault.after_tokens:
            return position
        sent += content[1]
    return len(contents)


async def _break(fault: Fault, script: Script, rest: Sequence[Content], exchange: Exchange, pacer: Pacer) -> bool:
    """Does the damage; returns whether the stream goes on."""
    event = rest[0][0] if rest else script.mark
    match fault.kind:
        case "stall":
            await pacer.pause(fault.pause_s)
        case "malformed":
            exchange.write(event[: max(len(event) // 2, 7)] + b"\n\n")
        case "truncated":
            # The HTTP message is complete; only the end mark is missing.
            exchange.end()
            return False
        case "cut":
            exchange.cut(event)
            return False
        case "error_event":
            exchange.end(script.error)
            return False
        case _:
            exchange.reset()
            return False
    return True
