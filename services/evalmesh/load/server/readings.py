"""One reading of what a server says about itself, as it is kept until the level is over."""

from array import array
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RawSeries:
    """One line of an exposition, without its value."""

    name: str
    """Raw: `server_names.WANTED`."""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source said at one moment."""

    source: str
    """Its address, without user, password and query; `nvml`."""
    kind: str
    """Which product it is: `vllm`, `dcgm`, ...; empty: unknown."""
    time_s: float
    """Monotonic; the middle between question and answer."""
    metrics: tuple[RawSeries, ...] = ()
    """The same object for all readings that have the same lines: an hour of them stays small."""
    values: "array[float]" = field(default_factory=lambda: array("d"))
    """Of `metrics`, in their order."""
    error: str = ""
    """Why it said nothing, or what of it could not be read; a sentence without a full stop."""
