"""Whether it leads anywhere to ask on: many requests of a run that fail alike, without one success, end the run."""

import asyncio
import time
from collections.abc import Callable

from evalmesh.domain.completion import CompletionError, as_sentence

_OF_ITS_KIND = frozenset({None, 400, 413, 422})
"""Statuses by which a server that answers others refuses a request for what it is: too long, of a wrong form."""


class HopelessError(Exception):
    """What a run asks of a pool fails; `str` says how."""

    def __init__(self, error: CompletionError, count: int) -> None:
        super().__init__(
            f"{count} requests in a row failed alike, none succeeded: {as_sentence(error.message)} The rest was not "
            "asked. Put that right and resume the run, or say how many failures are too many (--stop-after-failures)."
        )
        self.error_class = error.error_class


class Trial:
    """The requests of one run at one pool of this runner.

    A failure is held until it is known whose it is: the success of a request that was sent later shows that it was the
    request's own, and so does that nothing else is being asked. Held failures are kept nowhere, so a run that was ended
    asks them again. Times are Unix seconds.
    """

    def __init__(self, stop_after: int, hold_s: float, changed: Callable[[], None]) -> None:
        """`changed` is called when a request begins or ends to be held; `stop_after` 0 holds none."""
        self._stop_after = stop_after
        self._hold_s = hold_s
        self._changed = changed
        self._good_at = float("-inf")
        """When the newest of the requests that were answered was sent."""
        self._freed_at = float("-inf")
        """When all that were held were let go, since there was nobody else to tell whose their failures are."""
        self._alike: dict[tuple[str, int | None], set[str]] = {}
        """Requests that failed since the last success, by how."""
        self._own: set[str] = set()
        """Requests under way that have failed by their own fault: they are not counted again with the next try."""
        self._news = asyncio.Event()
        self._hopeless: HopelessError | None = None
        self.open = 0
        """Requests that are being asked, held ones included."""
        self.held = 0

    def succeeded(self, sent_at: float) -> None:
        """A request was answered."""
        self._alike.clear()
        if sent_at > self._good_at:
            self._good_at = sent_at
            if self.held:
                self._tell()

    async def failed(self, request: str, error: CompletionError, sent_at: float) -> None:
        """Returns when the failure is the request's own, or `HopelessError`; `sent_at` is when it was first sent.

        Who was sent before the newest success tells nothing of what would come after it, however late it fails.
        """
        if not self._stop_after or request in self._own or self._is_its_own(error):
            return
        alike = self._alike.setdefault((error.error_class, error.http_status), set())
        if sent_at >= self._good_at:
            alike.add(request)
        if len(alike) >= self._stop_after and self._hopeless is None:
            self._hopeless = HopelessError(error, len(alike))
            self._tell()
        await self._hold(time.time())
        self._own.add(request)

    def done(self, request: str) -> None:
        """It is not under way any more."""
        self.open -= 1
        self._own.discard(request)

    def _is_its_own(self, error: CompletionError) -> bool:
        return self._good_at > 0 and error.error_class == "bad_request" and error.http_status in _OF_ITS_KIND

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _hold(self, failed_at: float) -> None:
        self.held += 1
        self._changed()
        try:
            while self._hopeless is None and max(self._good_at, self._freed_at) <= failed_at:
                busy = self.open > self.held
                try:
                    async with asyncio.timeout(self._hold_s):
                        await self._news.wait()
                except TimeoutError:
                    # Nobody else is asked, and nobody has come meanwhile: there is nothing to wait for, and who is
                    # let go now goes on trying, which the others need not wait for.
                    if not busy and self.open <= self.held:
                        self._freed_at = time.time()
                        self._tell()
        finally:
            self.held -= 1
            self._changed()
        if self._hopeless is not None:
            raise self._hopeless
