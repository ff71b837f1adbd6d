"""What goes wrong, when, and for whom: decided by counts, by seed, or by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.distribution import parse_duration
from evalmesh.simulator.entropy import unit

TRANSPORT_KINDS = ("reset", "stall", "slow_header", "malformed", "truncated", "cut", "error_event", "empty")
DELAYS = ("stall", "slow_header")
"""Kinds after which the answer goes on and is whole."""
_MIN_STATUS, _MAX_STATUS = 400, 599


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble and the requests it hits: those that meet every condition given."""

    kind: str
    """An HTTP status from 400 to 599, or one of `TRANSPORT_KINDS`."""
    every: int = 0
    """Hits every n-th generation request the server gets; 0: not counted."""
    rate: float = 1.0
    """Share of requests hit, decided by seed per (sample, try)."""
    sample: str = ""
    """`{benchmark}/{sample id}`, or a sample id of any benchmark."""
    tries: int = 0
    """Hits only the first n tries of a request; 0: all."""
    retry_after_s: float = 1.0
    """`Retry-After` of 429 and 503, in whole seconds."""
    pause_s: float = 30.0
    """How long a stall or a slow header lasts; afterwards the answer goes on."""
    after_tokens: int | None = None
    """Tokens sent before a stream breaks; `None`: half of them."""

    @property
    def status(self) -> int | None:
        """The HTTP status, for kinds that are one."""
        return int(self.kind) if self.kind.isdigit() else None


class FaultPlan:
    """Decides which fault, if any, a request meets."""

    def __init__(self, seed: int, faults: Sequence[Fault]) -> None:
        self._seed = seed
        self._faults = tuple(faults)

    def decide(self, number: int, names: Sequence[str], tries: int) -> Fault | None:
        """The first fault that hits.

        Args:
            number: 1-based number of the request since start or reset.
            names: The sample's names, the most specific one first; for unknown prompts a digest of the text.
            tries: 1-based count of how often this sample was asked with this seed.
        """
        for index, fault in enumerate(self._faults):
            if fault.every and number % fault.every:
                continue
            if fault.sample and fault.sample not in names:
                continue
            if fault.tries and tries > fault.tries:
                continue
            if fault.rate < 1.0 and unit(self._seed, "fault", index, fault.kind, names[0], tries) >= fault.rate:
                continue
            return fault
        return None


def parse_fault(text: str) -> Fault:
    """Reads `KIND:every=50`, `KIND:rate=0.02`, `KIND:sample=ID` and their options. Raises `InvalidInput`.

    Options: `tries=N`, `retry_after=2s` (429, 503), `pause=10s` (stall, slow_header), `after=N` tokens (broken
    streams).
    """
    kind, _, rest = text.strip().partition(":")
    is_status = kind.isdigit() and _MIN_STATUS <= int(kind) <= _MAX_STATUS
    if not is_status and kind not in TRANSPORT_KINDS:
        raise InvalidInput(
            f"fault: {kind!r} in {text!r} is no kind; use a status from 400 to 599 or {', '.join(TRANSPORT_KINDS)}.",
        )
    options = dict(_option(part, text) for part in rest.split(",") if part)
    unknown = options.keys() - {"every", "rate", "sample", "tries", "retry_after", "pause", "after"}
    if unknown or not options.keys() & {"every", "rate", "sample", "tries"}:
        raise InvalidInput(
            f"fault: {text!r} must say whom it hits, with every=N, rate=R, sample=ID or tries=N; "
            "further options are retry_after, pause and after.",
        )
    try:
        fault = Fault(
            kind,
            every=int(options.get("every", "0")),
            rate=float(options.get("rate", "1")),
            sample=options.get("sample", ""),
            tries=int(options.get("tries", "0")),
            retry_after_s=parse_duration(options.get("retry_after", "1s"), f"fault {text}"),
            pause_s=parse_duration(options.get("pause", "30s"), f"fault {text}"),
            after_tokens=int(options["after"]) if "after" in options else None,
        )
    except ValueError:
        raise InvalidInput(f"fault: {text!r} has a value that is no number.") from None
    if not 0.0 <= fault.rate <= 1.0 or min(fault.every, fault.tries, fault.after_tokens or 0) < 0:
        raise InvalidInput(f"fault: {text!r} needs a rate from 0 to 1 and counts that are not negative.")
    return fault


def _option(part: str, text: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals or not value:
        raise InvalidInput(f"fault: {part!r} in {text!r} is not understood; write NAME=VALUE.")
    return name.strip(), value.strip()
