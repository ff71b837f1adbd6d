"""The key of an endpoint: in use, refused, looked up again."""

import logging
from collections.abc import Callable

from evalmesh.adapters.openai.errors import Failure
from evalmesh.adapters.openai.target import Target
from evalmesh.domain.errors import EvalmeshError

_log = logging.getLogger(__name__)
_WISHES_KEPT = 1000


class Access:
    """Where a model is reached with which key, and whether the server takes it.

    A 401 is final for the requests of its time, or each of thousands of samples would ask for another one. But keys
    are rotated while a pool lives: a refused key is looked up again, and the server asked again, once in `retry_s` and
    for each new wish. Times are of one monotonic clock, in seconds.
    """

    __slots__ = ("_look_up", "_refusal", "_refused_at", "_renewed_at", "_retry_s", "_wishes", "target")

    def __init__(self, look_up: Callable[[], Target], retry_s: float) -> None:
        """Raises what `look_up` raises."""
        self.target = look_up()
        self._look_up = look_up
        self._retry_s = retry_s
        self._refusal: Failure | None = None
        self._refused_at = 0.0
        self._renewed_at = 0.0
        self._wishes: set[str] = set()

    def refusal(self, now: float) -> Failure | None:
        """What the server said about the key; `None` when a request may be sent."""
        if self._refusal is not None and now - self._refused_at >= self._retry_s:
            self._renew(now)
        return self._refusal

    def refused(self, failure: Failure, sent_at: float, now: float, key_ref: str) -> None:
        """The server answered 401 to what was sent at `sent_at`."""
        if sent_at < self._renewed_at:
            return  # with a key that is no longer in use
        if self._refusal is None:
            _log.error("%s refuses the key (%s).", self.target.where, key_ref or "none given")
        self._refusal, self._refused_at = failure, now

    def accepted(self) -> None:
        """The server takes the key."""
        self._refusal = None
        self._wishes.clear()

    def renew(self, wish: str, now: float) -> None:
        """Somebody wants something of the model; each wish may ask a refused key once."""
        if self._refusal is None or wish in self._wishes:
            return
        if len(self._wishes) >= _WISHES_KEPT:
            self._wishes.clear()
        self._wishes.add(wish)
        self._renew(now)

    def _renew(self, now: float) -> None:
        self._refused_at = now
        try:
            self.target = self._look_up()
        except EvalmeshError as error:
            self._refusal = Failure("auth", error.message, retryable=False)
            return
        self._refusal, self._renewed_at = None, now
