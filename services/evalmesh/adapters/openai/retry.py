"""When to try again, and how an endpoint that does not answer is looked after."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits between tries, and how soon an outage is believed and its end is seen."""

    base_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_retry_after_s: float = 120.0
    """A server that asks for more is asked again after this."""
    connect_timeout_s: float = 10.0
    outage_failures: int = 5
    """So many tries in a row that no server answered make an outage; one that finds nobody listening does at once."""
    max_probe_delay_s: float = 2.0
    """Cap of the waits between two looks at an endpoint that is away: its return is seen within this."""
    probe_timeout_s: float = 15.0
    """A look is given up after this; most answer a handful of tokens sooner."""
    slow_answer_s: float = 6.0
    """Before a run, an answer is waited for no longer where the list of models tells that the server is there."""
    proven_s: float = 60.0
    """What answered so recently need not be looked at before the first request of a pool."""
    decrease_interval_s: float = 1.0
    """The concurrency is lowered at most once in this time."""
    list_timeout_s: float = 3.0
    """For the list of models, which is only a help."""
    key_retry_s: float = 60.0
    """A key that was refused is looked up and tried again after this."""

    def delay_s(self, failures: int, rng: Random) -> float:
        """Full jitter: uniform between 0 and base x 2^(failures - 1), capped.

        Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
        """
        # The exponent is bounded so that a long outage does not overflow the float.
        return rng.uniform(0.0, min(self.max_delay_s, self.base_delay_s * 2.0 ** min(failures - 1, 60)))

    def probe_delay_s(self, failures: int, rng: Random) -> float:
        """Between two looks: as `delay_s`, but never nothing, since there is one looker and nobody to spread."""
        return rng.uniform(0.5, 1.0) * min(self.max_probe_delay_s, self.base_delay_s * 2.0 ** min(failures, 60))
