"""What an answer holds beside text: calls of tools, media, log probabilities. Servers differ; nulls are absent."""

from collections.abc import Iterable, Mapping

import msgspec

from evalmesh.domain.completion import TokenLogprob
from evalmesh.domain.content import ToolCall
from evalmesh.domain.media import DATA_URL_START, decode_base64


class Function(msgspec.Struct, gc=False):
    """What is called; as `function_call` of a message the older form of the same."""

    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")
    """A string of JSON; some servers send the object itself."""


class Call(msgspec.Struct, gc=False):
    """A call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Audio(msgspec.Struct, gc=False):
    """A spoken answer."""

    data: str | None = None
    transcript: str | None = None


class _Top(msgspec.Struct, gc=False):
    token: str
    logprob: float


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float
    top_logprobs: list[_Top] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """`content` is of chat answers, the rest of the legacy completions API.

    There all lists have one entry per token, and the first token's value is null.
    """

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


decode_logprobs = msgspec.json.Decoder(Logprobs | None).decode


class _Open:
    """A call that is being put together."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class CallBuilder:
    """Puts calls together from whole ones or from pieces.

    Pieces belong together by index. Where a server sends no index, or one index for all, a new id begins a new call.
    """

    __slots__ = ("_at", "_calls")

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._at: dict[int, _Open] = {}

    def add(self, pieces: Iterable[Call]) -> None:
        """Takes what one message or one chunk says about calls."""
        for piece in pieces:
            call = self._belongs_to(piece)
            call.id = call.id or piece.id or ""
            if piece.function is not None:
                call.name = call.name or piece.function.name or ""
                call.arguments.append(_arguments(piece.function.arguments))

    def _belongs_to(self, piece: Call) -> _Open:
        last = self._calls[-1] if self._calls else None
        call = last if piece.index is None else self._at.get(piece.index)
        if call is not None and not (piece.id and call.id and piece.id != call.id):
            return call
        call = _Open()
        self._calls.append(call)
        if piece.index is not None:
            self._at[piece.index] = call
        return call

    def calls(self) -> tuple[ToolCall, ...]:
        """All of them, in the order in which they began."""
        return tuple(ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls)


def whole_calls(pieces: Iterable[Call], legacy: Function | None) -> tuple[ToolCall, ...]:
    """Calls of an answer that was not streamed; each stands for itself."""
    calls = [
        ToolCall(one.id or "", one.function.name or "", _arguments(one.function.arguments))
        for one in pieces
        if one.function is not None
    ]
    if legacy is not None and not calls:
        calls.append(ToolCall("", legacy.name or "", _arguments(legacy.arguments)))
    return tuple(calls)


def _arguments(raw: msgspec.Raw) -> str:
    text = bytes(raw)
    if text == b"null":
        return ""
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


def media_bytes(found: object) -> bytes:
    """Bytes of an image part: `{"url": "data:..."}`, or the URL itself.

    Raises `ValueError` for anything else: an address that a model names is not fetched.
    """
    url = str(found.get("url") if isinstance(found, Mapping) else found)
    if url[: len(DATA_URL_START)].lower() != DATA_URL_START:
        raise ValueError("a medium by address; evalmesh fetches nothing that a model points at, ask for base64")
    return decode_base64(url)


def read_token_logprobs(raws: Iterable[msgspec.Raw]) -> tuple[TokenLogprob, ...]:
    """Log probabilities of the answer's tokens, from the `logprobs` of its choice or of all its chunks.

    Raises `msgspec.DecodeError`.
    """
    found: list[TokenLogprob] = []
    for raw in raws:
        one = decode_logprobs(raw)
        if one is None:
            continue
        for token in one.content or ():
            top = tuple((other.token, other.logprob) for other in token.top_logprobs or ())
            found.append(TokenLogprob(token.token, token.logprob, top))
        tops = one.top_logprobs or ()
        for place, (text, value) in enumerate(zip(one.tokens or (), one.token_logprobs or (), strict=False)):
            others = tops[place] if place < len(tops) else None
            if value is not None:
                found.append(TokenLogprob(text, value, tuple((others or {}).items())))
    return tuple(found)
