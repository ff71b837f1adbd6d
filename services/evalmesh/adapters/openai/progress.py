"""How one request has come on, and the completion it becomes."""

from collections.abc import Sequence

from evalmesh.adapters.openai.errors import Failure
from evalmesh.adapters.openai.ways import Way
from evalmesh.dialect.answer import Answer
from evalmesh.domain.completion import Completion, CompletionError, Timing
from evalmesh.domain.content import ContentPart
from evalmesh.domain.request import GenerationConfig, Request


class Question:
    """One request as it is sent."""

    __slots__ = ("bodies", "config", "request", "way")

    def __init__(
        self, request: Request, config: GenerationConfig, way: Way | None = None, bodies: Sequence[bytes] = ()
    ) -> None:
        self.request = request
        self.config = config
        self.way = way
        self.bodies = bodies
        """Empty until they are written."""


class Progress:
    """How far one request has come. Times are of `Health.clock`, which stands still in outages."""

    __slots__ = ("away", "began", "crowded_out", "deadline", "failure", "first_sent_at", "timing", "tries")

    def __init__(self, now: float) -> None:
        self.tries = 0
        self.away = 0
        """Those of the tries that met an outage."""
        self.crowded_out = 0
        """Those of the tries that were refused for load that other requests of ours were part of."""
        self.began = now
        self.deadline: float | None = None
        """Set with the first send."""
        self.failure: Failure | None = None
        self.first_sent_at = 0.0
        """Unix seconds."""
        self.timing: Timing | None = None

    @property
    def failures(self) -> int:
        """Tries that count."""
        return self.tries - self.away - self.crowded_out


def answered(request: Request, answer: Answer, progress: Progress, media: tuple[ContentPart, ...] = ()) -> Completion:
    """With an answer."""
    return Completion(
        request.sample_id,
        request.repeat,
        request.digest,
        answer.text,
        answer.reasoning,
        answer.finish_reason,
        answer.continuations,
        answer.embeddings,
        answer.scores,
        tool_calls=answer.tool_calls,
        refusal=answer.refusal,
        media=media,
        top_logprobs=answer.top_logprobs,
        usage=answer.usage,
        timing=progress.timing,
        tries=progress.tries,
    )


def error_of(failure: Failure, addition: str = "") -> CompletionError:
    """What is kept of a failure."""
    return CompletionError(failure.error_class, failure.message + addition, failure.http_status)


def failed(request: Request, progress: Progress, addition: str = "") -> Completion:
    """Without one, for the last failure there was."""
    failure = progress.failure or Failure("timeout", "The endpoint took no request in time.")
    return Completion(
        request.sample_id,
        request.repeat,
        request.digest,
        timing=progress.timing,
        tries=progress.tries,
        error=error_of(failure, addition),
    )
