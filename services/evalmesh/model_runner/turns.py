"""Conversations of several turns: what the user says next is asked once the model has answered what came before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from evalmesh.domain.completion import Completion, Timing, Usage
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.ports.endpoint import AskAgain


class Asks(Protocol):
    """What answers one request: an endpoint, or what stands before it."""

    async def generate(
        self, request: Request, config: GenerationConfig, ask_again: AskAgain | None = None
    ) -> Completion:
        """See `Endpoint.generate`."""
        ...


async def converse(
    model: Asks,
    request: Request,
    config: GenerationConfig,
    ask_again: AskAgain | None = None,
    begun: Completion | None = None,
    keep: Callable[[Completion], None] | None = None,
) -> Completion:
    """Asks turn after turn; the completion tells the whole conversation. A turn that fails ends it, with its error.

    Args:
        model: Sees one request for each turn.
        request: With any number of `followups`.
        config: Of each turn.
        ask_again: See `Endpoint.generate`, which also says what this raises.
        begun: What is answered already.
        keep: Gets what is answered, after each turn but the last.
    """
    if not request.followups:
        return await model.generate(request, config, ask_again)
    so_far = begun
    while True:
        answers = () if so_far is None else so_far.turns
        found = await model.generate(_turn(request, answers), config, ask_again)
        if found.error is not None or len(answers) == len(request.followups):
            return _joined(so_far, found, answers)
        so_far = replace(_joined(so_far, found, (*answers, found.text)), text="", unfinished=True)
        if keep is not None:
            keep(so_far)


def _turn(request: Request, answers: Sequence[str]) -> Request:
    """What is asked after so many answers."""
    messages = list(request.messages)
    for answer, said in zip(answers, request.followups, strict=False):
        messages += [Message("assistant", answer), Message("user", said)]
    return replace(request, messages=tuple(messages), followups=())


def _joined(before: Completion | None, found: Completion, answers: Sequence[str]) -> Completion:
    if before is None:
        return replace(found, turns=tuple(answers))
    return replace(
        found,
        turns=tuple(answers),
        usage=_sum(before.usage, found.usage),
        timing=_both(before.timing, found.timing),
        tries=before.tries + found.tries,
    )


def _sum(a: Usage | None, b: Usage | None) -> Usage | None:
    if a is None or b is None:
        return a or b
    names = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in names}
    # A count that one turn lacks is not that of the conversation.
    return Usage(**{name: None if None in pair else sum(pair) for name, pair in pairs.items()})


def _both(a: Timing | None, b: Timing | None) -> Timing | None:
    """The times spent waiting for answers; what lies between the turns of a run that was resumed is none of it."""
    return b or a if a is None or b is None else Timing(a.start_time, a.latency_s + b.latency_s, a.ttft_s)
