"""The frames of a level, one after the other.

Fields come from three places. The schedule (`load.arrivals.schedule`, from seed and level number) gives `index`,
`due_s` and the warm-up flag. The data set gives body, `prepared_tokens` and the turns of a conversation, from
`first_prompt + index` alone. The asked lengths give `max_tokens`. `conversation` is the index, for there are no turns
between frames, and `think_s` is 0: the pauses of a conversation are in its body.
"""

from collections.abc import Iterator

import msgspec

from evalmesh.load.arrivals.schedule import Share, due_times
from evalmesh.load.measure.records import Flag
from evalmesh.load_generator.prompts import draws
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.opening import OpenedPrompts
from evalmesh.load_generator.prompts.pauses import Pauses
from evalmesh.load_generator.protocol import FRAME, Conversation, FeederSetup, FeedLevel, FrameKind

_encode = msgspec.json.Encoder().encode
_pack = FRAME.pack


class Frames:
    """Makes the frames of one seat, level by level."""

    def __init__(self, setup: FeederSetup, opened: OpenedPrompts) -> None:
        self._setup = setup
        self._opened = opened
        self._share = Share(setup.seat, setup.seats)
        self._pauses = Pauses(opened.source.context)

    @property
    def notes(self) -> str:
        """What a reader must know about the prompts so far."""
        return " ".join(self._opened.source.notes)

    @property
    def repeated(self) -> bool:
        """Whether the level asked a prompt that had been asked before."""
        return self._opened.source.repeated

    def of(self, level: FeedLevel) -> Iterator[tuple[int, bytes]]:
        """(index, frame) of this seat's requests. Raises `InvalidInput` when the data set cannot go on."""
        source, first = self._opened.source, level.first_prompt
        source.repeated = False
        replayed = level.arrival.kind == "trace"
        if replayed:
            # The schedule is the trace, so each level begins at its first row; texts that we make are new ones.
            source.context.salt, first = first, 0
            source.repeated = source.context.recorded and level.first_prompt > 0
        offsets = source.offsets_s(once=not level.level.number) if replayed else ()
        seed = draws.Draws(self._setup.seed, "schedule").words(level.number, 4).cast("B").cast("Q")[0]
        due = due_times(level.level, level.arrival, seed, level.warmup, offsets)
        # The schedule is asked first: when it ends, no prompt is made in vain.
        asked = zip(self._share.of(due), source.prompts(first, self._share), strict=False)
        if self._opened.dataset.conversations:
            for (index, due_s), (prompt, limit) in asked:
                yield index, self._conversation(index, due_s, level, prompt, limit)
            return
        yield from self._requests(asked, level.warmup)

    def _requests(
        self, asked: Iterator[tuple[tuple[int, float], tuple[LoadPrompt, int]]], warmup: int
    ) -> Iterator[tuple[int, bytes]]:
        body_of, request, flag = self._opened.bodies.of, FrameKind.REQUEST, int(Flag.WARMUP)
        last: LoadPrompt | None = None
        last_limit, body = -1, b""
        for (index, due_s), (prompt, limit) in asked:
            if prompt is not last or limit != last_limit:
                body = body_of(prompt, limit)
                last, last_limit = prompt, limit
            flags = flag if index < warmup else 0
            yield index, _pack(request, flags, 1, len(body), index, due_s, 0.0, index, prompt.tokens, limit, 0) + body

    def _conversation(self, index: int, due_s: float, level: FeedLevel, prompt: LoadPrompt, limit: int) -> bytes:
        turns = len(prompt.turns)
        limits = self._opened.source.turn_limits(level.first_prompt + index, turns, limit)
        bodies = self._opened.bodies
        said = Conversation(
            body=bodies.around_turns(exact_output=prompt.exact_output, limited=any(limits)),
            system=prompt.system,
            turns=list(prompt.turns),
            think_s=self._pauses.before(level.first_prompt + index, turns),
            max_tokens=limits,
            prepared_tokens=list(prompt.turn_tokens),
        )
        body = _encode(said)
        flags = int(Flag.WARMUP) if index < level.warmup else 0
        tokens = sum(prompt.turn_tokens[:1])
        head = _pack(FrameKind.CONVERSATION, flags, turns, len(body), index, due_s, 0.0, index, tokens, limits[0], 0)
        return head + body


def level_end(number: int) -> bytes:
    """The frame behind the last request of a level."""
    return _pack(FrameKind.LEVEL_END, 0, 0, 0, number, 0.0, 0.0, 0, 0, 0, 0)


def failed(number: int, why: str) -> bytes:
    """The frame that says that a level cannot be fed further."""
    body = why.encode()
    return _pack(FrameKind.FAILED, 0, 0, len(body), number, 0.0, 0.0, 0, 0, 0, 0) + body
