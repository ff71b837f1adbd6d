"""What a habit is made of: bytes of an answer, and what is right to make of them."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from evalmesh.load.measure.records import OK, Outcome

TEXT = "The result is 18, déjà vu."
PIECES = ("The ", "result is", " 18, dé", "jà vu.")
SPENT = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
SSE, JSON = "text/event-stream", "application/json"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """One answer as bytes on the wire."""

    body: bytes
    kind: str = JSON
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    frame: str = "chunked"
    """How its end is told: `chunked`, `length`, or `close` for the end of the connection."""
    cut: int = 0
    """Bytes per chunk; 0: all in one."""
    extension: str = ""
    """Behind each chunk's size."""
    version: str = "1.1"
    before: bytes = b""
    """Sent ahead of the head: answers of the 1xx kind."""

    def packets(self) -> list[bytes]:
        """What is written, each in a packet of its own."""
        framed = {"length": [f"Content-Length: {len(self.body)}"], "chunked": ["Transfer-Encoding: chunked"]}
        lines = [f"HTTP/{self.version} {self.status}", f"Content-Type: {self.kind}", *self.headers]
        head = "\r\n".join([*lines, *framed.get(self.frame, ["Connection: close"]), "", ""]).encode()
        size = self.cut or max(1, len(self.body))
        parts = [self.body[at : at + size] for at in range(0, len(self.body), size)]
        if self.frame != "chunked":
            return [self.before + head, *parts]
        sized = [b"%x%b\r\n%b\r\n" % (len(part), self.extension.encode(), part) for part in parts]
        return [self.before + head, *_together(sized), b"0\r\n\r\n"]


def _together(parts: list[bytes]) -> list[bytes]:
    """Many small chunks in few packets."""
    return [b"".join(parts[at : at + 16]) for at in range(0, len(parts), 16)]


@dataclass(frozen=True)
class Right:
    """What every client must make of an answer. `error` and `outcome` are one failure in the words of two clients."""

    text: str = TEXT
    finish: str = "stop"
    reasoning: str | None = None
    refusal: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    """Names and arguments."""
    tokens: tuple[int | None, int | None] | None = (7, 5)
    """Read and written; `None`: the server does not say."""
    error: str = ""
    outcome: Outcome = OK
    words: str = ""
    """Part of the message of a failure."""


@dataclass(frozen=True)
class Habit:
    """One way to answer: to who asks for a stream, and to who does not."""

    name: str
    streamed: Reply | None
    whole: Reply | None
    right: Right = field(default_factory=Right)
    whole_right: Right | None = None
    """Where the two differ."""
    fast_right: Right | None = None
    """What the load test's own HTTP client makes of it, which unpacks nothing: packed streams cannot be timed."""

    def reply(self, *, streamed: bool) -> Reply | None:
        return self.streamed if streamed else self.whole

    def expected(self, *, streamed: bool) -> Right:
        return self.right if streamed or self.whole_right is None else self.whole_right


def failed(error: str, outcome: Outcome, words: str = "") -> Right:
    return Right(error=error, outcome=outcome, words=words)


def chunk(content: Any = None, finish: Any = None, delta: Any = None, **more: Any) -> dict[str, Any]:
    """One event of a stream; `more` goes beside the choices."""
    if delta is None:
        delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def text_chunks() -> list[dict[str, Any]]:
    return [chunk(piece) for piece in PIECES]


USAGE = {"choices": [], "usage": SPENT}


def stream_of(*events: Any, done: bool = True, end: str = "\n\n", **reply: Any) -> Reply:
    """Values as JSON, bytes as they are; the end mark last."""
    found = [one if isinstance(one, bytes) else f"data: {json.dumps(one)}{end}".encode() for one in events]
    return Reply(b"".join([*found, b"data: [DONE]" + end.encode() if done else b""]), **{"kind": SSE, **reply})


def sound(*before: Any, last: dict[str, Any] | None = None, **reply: Any) -> Reply:
    """A stream that is as it should be, behind what stands before it."""
    return stream_of(*before, *text_chunks(), last or chunk(finish="stop"), USAGE, **reply)


def answer(content: Any = TEXT, finish: Any = "stop", message: Any = None, choice: Any = None, **more: Any) -> Any:
    """The value of a whole answer."""
    found = {"role": "assistant", "content": content, **(message or {})}
    one = {"index": 0, "message": found, "finish_reason": finish, **(choice or {})}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [one], "usage": SPENT} | more


def json_of(value: Any, **reply: Any) -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(body, **{"frame": "length", **reply})


def sound_json(**reply: Any) -> Reply:
    return json_of(answer(), **reply)


def both(name: str, delta: dict[str, Any], right: Right, finish: str = "stop", whole: Any = None) -> Habit:
    """The same fields of a message, in a chunk before the text (if any) and in the message of a whole answer."""
    texts = text_chunks() if right.text else []
    streamed = stream_of(chunk(delta=delta), *texts, chunk(finish=finish), USAGE)
    message = delta if whole is None else whole
    content = {} if "content" in message else {"content": right.text or None}
    return Habit(name, streamed, json_of(answer(None, finish, {**content, **message})), right)


def cut(right: Right) -> Right:
    """Without counts: they come after what went wrong."""
    return replace(right, tokens=None)
