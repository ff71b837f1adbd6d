"""Conversations: the next turn's body is made of all turns before it and the answers that came."""

import msgspec

from evalmesh.dialect.loose import whole
from evalmesh.load_generator.apis.base import LoadApi
from evalmesh.load_generator.engine.feed import Frame
from evalmesh.load_generator.engine.flight import Flight
from evalmesh.load_generator.protocol import Conversation

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Conversation).decode


class Dialogue:
    """One conversation under way."""

    __slots__ = ("_api", "_conversation", "_messages", "_rest", "frame", "turn")

    def __init__(self, api: LoadApi, frame: Frame) -> None:
        """Raises `msgspec.DecodeError` for a frame that is none."""
        self._api = api
        self.frame = frame
        self.turn = 0
        """Turns begun."""
        self._conversation = _decode(frame.body)
        self._rest = bytes(self._conversation.body).strip()[1:-1].strip()
        """The body's own keys."""
        self._messages = bytearray()
        if self._conversation.system:
            self._add("system", self._conversation.system)

    @property
    def has_more(self) -> bool:
        """Whether a turn is left."""
        return self.turn < len(self._conversation.turns)

    @property
    def think_s(self) -> float:
        """Pause before the next turn."""
        think_s = self._conversation.think_s
        return think_s[self.turn] if self.turn < len(think_s) else 0.0

    def next_turn(self, due_s: float) -> Flight:
        """The request of the next turn."""
        turn, said = self.turn, self._conversation
        self.turn += 1
        self._add("user", said.turns[turn])
        limit = said.max_tokens[turn] if turn < len(said.max_tokens) else 0
        reader = self._api.reader()
        # An answer that nothing follows need not be kept.
        reader.texts = [] if self.has_more else None
        flight = Flight(self.frame, self._body(limit), reader, due_s)
        flight.turn = turn
        flight.dialogue = self
        flight.max_tokens = limit or self.frame.max_tokens
        flight.prepared_tokens = said.prepared_tokens[turn] if turn < len(said.prepared_tokens) else 0
        return flight

    def hear(self, flight: Flight) -> None:
        """Notes the answer to the last turn."""
        self._add("assistant", whole("".join(flight.reader.texts or ())))

    def _add(self, role: str, content: str) -> None:
        if self._messages:
            self._messages += b","
        self._messages += _encode({"role": role, "content": content})

    def _body(self, limit: int) -> bytes:
        turns = b'"%s":[%s]' % (self._api.turns_key.encode(), self._messages)
        # A key that stands twice would be the server's to decide: the limit is left out of the body by the feeder.
        own = b',"%s":%d' % (self._api.limit_key.encode(), limit) if limit else b""
        return b"{%s%s%s%s}" % (self._rest, b"," if self._rest else b"", turns, own)
