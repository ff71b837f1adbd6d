"""When to try again, and when an endpoint is considered gone."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits between tries and the patience with an endpoint that is down."""

    base_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_retry_after_s: float = 120.0
    """A server that asks for more is asked again after this."""
    connect_timeout_s: float = 10.0
    max_connect_delay_s: float = 2.0
    """Cap while nothing listens: a restarted server is noticed within this."""
    outage_s: float = 30.0
    """Connect failures that lasted longer than this, without one answer between them, open the breaker."""
    outage_failures: int = 5
    """And there must have been at least so many of them."""
    probe_interval_s: float = 3.0
    """While the breaker is open, one request per interval is let through to see whether the endpoint is back."""
    decrease_interval_s: float = 1.0
    """The concurrency is lowered at most once in this time."""
    check_timeout_s: float = 3.0
    key_retry_s: float = 60.0
    """A key that was refused is looked up and tried again after this."""

    def delay_s(self, failures: int, rng: Random, *, connect: bool = False) -> float:
        """Full jitter: uniform between 0 and base x 2^(failures - 1), capped.

        Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
        """
        cap = self.max_connect_delay_s if connect else self.max_delay_s
        # The exponent is bounded so that a long outage does not overflow the float.
        return rng.uniform(0.0, min(cap, self.base_delay_s * 2.0 ** min(failures - 1, 60)))


class Breaker:
    """Tells a brief outage, worth waiting for, from an endpoint that is gone.

    Times are of one monotonic clock, in seconds.
    """

    __slots__ = ("_failed_at", "_failures", "_next_probe_at", "_policy", "_since")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._since: float | None = None
        self._failed_at = 0.0
        self._failures = 0
        self._next_probe_at = 0.0

    def reached(self) -> None:
        """The server was there, whatever it said."""
        if self._since is not None:
            self._since = None
            self._failures = 0

    def connect_failed(self, now: float) -> None:
        """A connection could not be made."""
        if self._since is None or now - self._failed_at > self._policy.outage_s:
            # After a long silence the older failures say nothing about the time between.
            self._since = now
            self._failures = 0
        self._failed_at = now
        self._failures += 1
        if self.is_open(now) and self._next_probe_at <= now:
            self._next_probe_at = now + self._policy.probe_interval_s

    def is_open(self, now: float) -> bool:
        """Whether the outage has lasted too long to wait for its end."""
        return (
            self._since is not None
            and now - self._since > self._policy.outage_s
            and self._failures >= self._policy.outage_failures
        )

    def admits(self, now: float) -> bool:
        """Whether a request may be sent; while open, only one per probe interval."""
        if not self.is_open(now):
            return True
        if now < self._next_probe_at:
            return False
        self._next_probe_at = now + self._policy.probe_interval_s
        return True

    def outage_s(self, now: float) -> float:
        """For how long no connection could be made; 0 when all is well."""
        return 0.0 if self._since is None else now - self._since
