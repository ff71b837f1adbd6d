"""One answer in the making: its tokens, and whether it has come to an end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evalmesh.adapters.engines.texts import Texts
from evalmesh.adapters.engines.transformers.calls import calls_in
from evalmesh.adapters.engines.transformers.sampling import Chooser
from evalmesh.domain.completion import (
    Completion,
    CompletionError,
    ErrorClass,
    FinishReason,
    Timing,
    TokenLogprob,
    Usage,
)
from evalmesh.domain.request import Request


@dataclass(slots=True, eq=False, kw_only=True)
class Task:
    """Something to be answered; whoever waits for it may go away."""

    request: Request
    tell: Callable[[Completion], None]
    """May be called from any thread."""
    start_time: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    first_at: float | None = None
    forgotten: bool = False

    def answer(self, **fields: object) -> None:
        """Hands over what came of it."""
        now = time.perf_counter()
        ttft_s = None if self.first_at is None else self.first_at - self.started
        one = self.request
        timing = Timing(self.start_time, now - self.started, ttft_s)
        self.tell(Completion(one.sample_id, one.repeat, one.digest, timing=timing, **fields))  # type: ignore[arg-type]

    def fail(self, message: str, error_class: ErrorClass = "bad_request") -> None:
        """Hands over an error in its place."""
        self.answer(error=CompletionError(error_class, message))


@dataclass(slots=True, eq=False, kw_only=True)
class Writing(Task):
    """A text that is being written."""

    chooser: Chooser
    limit: int
    """The most tokens that it may have."""
    _finals: frozenset[str] = field(init=False)
    """The last characters of its stop strings."""
    _tail: int = field(init=False)
    """So many tokens hold the longest stop string."""

    def __post_init__(self) -> None:
        stops = self.chooser.wish.stop
        self._finals = frozenset(stop[-1] for stop in stops)
        self._tail = max((len(stop.encode()) for stop in stops), default=0) + 8

    @property
    def tokens(self) -> list[int]:
        """All that a pass over it feeds."""
        return [*self.chooser.prompt, *self.chooser.said]

    @property
    def length(self) -> int:
        """Of `tokens`."""
        return len(self.chooser.prompt) + len(self.chooser.said)

    def add(self, token: int, texts: Texts) -> bool:
        """Takes the next token; whether the answer has ended with it, and was handed over."""
        chooser = self.chooser
        if self.first_at is None:
            self.first_at = time.perf_counter()
        chooser.said.append(token)
        if token in chooser.wish.ends:
            self._finish(texts, "stop", ended=True)
        elif self._finals and self._stopped(token, texts):
            self._finish(texts, "stop")
        elif len(chooser.said) >= self.limit:
            self._finish(texts, "length")
        else:
            return False
        return True

    def _stopped(self, token: int, texts: Texts) -> bool:
        """Whether a stop string is there now. Only a token that has the last character of one can complete it."""
        piece = texts.piece(token)
        if "\ufffd" not in piece and self._finals.isdisjoint(piece):
            return False
        said, wish = self.chooser.said, self.chooser.wish
        if len(said) < wish.min_tokens:
            return False
        tail = texts.decode(said[-self._tail :], keep_special=wish.keep_special)
        if not any(stop in tail for stop in wish.stop):
            return False
        return self._cut(texts.answer(self.chooser.prompt, said, keep_special=wish.keep_special)) is not None

    def _cut(self, text: str) -> str | None:
        """What stands before the first stop string; `None` where there is none."""
        places = [place for stop in self.chooser.wish.stop if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else None

    def _finish(self, texts: Texts, reason: FinishReason, *, ended: bool = False) -> None:
        chooser = self.chooser
        said = chooser.said[:-1] if ended else chooser.said
        text = texts.answer(chooser.prompt, said, keep_special=chooser.wish.keep_special)
        cut = self._cut(text) if self._finals and len(chooser.said) >= chooser.wish.min_tokens else None
        if cut is not None:
            text, reason = cut, "stop"
        calls, text = calls_in(text) if self.request.tools else ((), text)
        scored = zip(said, chooser.logprobs, strict=False)
        self.answer(
            text=text,
            finish_reason="tool_calls" if calls else reason,
            tool_calls=calls,
            usage=Usage(len(chooser.prompt), len(chooser.said)),
            top_logprobs=tuple(
                TokenLogprob(texts.piece(token), own, tuple((texts.piece(other), value) for other, value in best))
                for token, (own, best) in scored
            ),
        )
