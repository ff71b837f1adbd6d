"""One request to an endpoint, outside of any load: does it answer, and how does it count tokens?"""

from dataclasses import dataclass
from typing import Protocol

from evalmesh.domain.load_test import LoadTarget


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What came back."""

    status: int
    body: bytes
    """All of it; of a refusal its beginning, of a redirect where it points to: none is followed."""


class LoadProbe(Protocol):
    """Sends single requests."""

    async def send(self, target: LoadTarget, body: bytes, timeout_s: float) -> ProbeAnswer:
        """The whole answer, whatever its status.

        Raises:
            Unavailable: no answer (unknown host, refused, TLS, time-out), or none of HTTP. The message names the
                address and the cause.
            InvalidInput: the address, a header or the file with authorities cannot be used.
            NotFound: the key that `target.key_ref` refers to is not there.
        """
        ...
