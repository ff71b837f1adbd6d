"""One request to an endpoint, outside of any load: does it answer, and how does it count tokens?"""

from dataclasses import dataclass
from typing import Protocol

from evalmesh.domain.load_test import LoadTarget


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What came back."""

    status: int
    body: bytes
    location: str = ""
    """Where a redirect points to; none is followed, as none is during a load test."""


class LoadProbe(Protocol):
    """Sends single requests."""

    async def send(self, target: LoadTarget, body: bytes, timeout_s: float) -> ProbeAnswer:
        """The whole answer, whatever its status.

        Raises:
            Unavailable: no answer: unknown host, refused, TLS, time-out. The message names the address and the cause.
            NotFound: the key that `target.key_ref` refers to is not there.
        """
        ...
