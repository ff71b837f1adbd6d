"""What runs and load tests have in common: something was asked for, and it has come so far."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Generic, Self, TypeVar

SpecT = TypeVar("SpecT")


class State(StrEnum):
    """QUEUED -> PLANNING -> RUNNING -> SUCCEEDED | FAILED; any but the last two -> CANCELLING -> CANCELLED.

    FAILED means that it could not be done, and why is said. Runs whose samples and load tests whose requests partly
    failed have SUCCEEDED (runs: under the policies `exclude` and `zero`); their counts tell. Load tests are never
    PLANNING. FAILED and CANCELLED runs can be resumed, which puts them back to QUEUED.
    """

    QUEUED = "QUEUED"
    PLANNING = "PLANNING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether it will not change again by itself."""
        return self in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


@dataclass(frozen=True, slots=True)
class Submission(Generic[SpecT]):
    """A submitted wish and how far it has come."""

    COLLECTION: ClassVar[str]
    """First part of resource names."""
    NOUN: ClassVar[str]
    """What messages call it."""

    id: str
    """Lower-case, DNS characters, sortable by time; unique among runs and load tests."""
    spec: SpecT
    state: State
    create_time: float
    """Unix seconds; likewise the others."""
    start_time: float | None = None
    end_time: float | None = None
    attempt: int = 0
    """Grows with each resume, and when somebody else takes over; part of message ids, so that what is sent again is not
    taken for a duplicate."""
    error: str = ""
    """Why it FAILED."""
    error_reason: str = ""
    request_id: str = ""
    """The caller's key for idempotent creation."""
    change_time: float = 0.0
    """When the state last changed."""
    host: str = ""
    """Of several platforms on one folder, the one that works on it; empty: whichever there is."""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.COLLECTION}/{self.id}"

    @property
    def winding_up(self) -> bool:
        """Whether no more work is wanted for it."""
        return self.state.terminal or self.state is State.CANCELLING

    def failed(self, error: str, reason: str, now: float) -> Self:
        """As FAILED; itself when it has ended already."""
        if self.state.terminal:
            return self
        return replace(self, state=State.FAILED, error=error, error_reason=reason, end_time=now)
