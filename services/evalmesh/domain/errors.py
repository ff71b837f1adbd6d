"""Every error a user or a neighbouring service can meet.

Each class has a `reason` (stable, upper snake case, for programs), and says whether the same call may succeed later.
`wire.errors` maps each class to one gRPC code and back, so the SDK raises what the service raised.

    EvalmeshError
    ├── InvalidInput          the caller must change the input
    ├── NotFound              no such run, benchmark, object
    ├── AlreadyExists         create of something that is there
    ├── FailedPrecondition    the state of things forbids it
    ├── Conflict              a concurrent change won; read again, retry
    ├── Unauthenticated       no or wrong credentials
    ├── PermissionDenied      credentials known, not allowed
    ├── ResourceExhausted     disk full, quota, too many
    ├── Unavailable           a dependency is down for now
    ├── DeadlineExceeded      took longer than allowed
    ├── OutOfRange            an event sequence that is no longer kept
    ├── Unimplemented         asked for something this build cannot do
    └── InternalError         a defect in evalmesh
"""

from collections.abc import Mapping
from typing import ClassVar

LOADING = "loading"
"""Among the details of an `Unavailable`: it takes its time and goes on by itself, so that asking again will do."""


class EvalmeshError(Exception):
    """Base of all errors; the message is a full sentence that names the way out."""

    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, str] = dict(details or {})


class InvalidInput(EvalmeshError):
    """The input is wrong; `details["field"]` names the field where there is one."""

    reason = "INVALID_INPUT"


class NotFound(EvalmeshError):
    """The named resource does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(EvalmeshError):
    """The resource to create exists."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(EvalmeshError):
    """The state of the resource does not allow the call."""

    reason = "FAILED_PRECONDITION"


class Conflict(EvalmeshError):
    """Somebody else changed the resource in between; read it again and retry."""

    reason = "CONFLICT"
    retryable = True


class Unauthenticated(EvalmeshError):
    """Credentials are missing or wrong."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(EvalmeshError):
    """The caller is known and not allowed to do this."""

    reason = "PERMISSION_DENIED"


class ResourceExhausted(EvalmeshError):
    """Disk, quota or memory is used up."""

    reason = "RESOURCE_EXHAUSTED"
    retryable = True


class Unavailable(EvalmeshError):
    """A dependency cannot be reached now; the same call may succeed later."""

    reason = "UNAVAILABLE"
    retryable = True


class DeadlineExceeded(EvalmeshError):
    """The call took longer than its deadline."""

    reason = "DEADLINE_EXCEEDED"
    retryable = True


class OutOfRange(EvalmeshError):
    """The sequence asked for is no longer kept; get the resource and watch from now."""

    reason = "OUT_OF_RANGE"


class Unimplemented(EvalmeshError):
    """This build or endpoint cannot do what was asked."""

    reason = "UNIMPLEMENTED"


class InternalError(EvalmeshError):
    """A defect in evalmesh."""

    reason = "INTERNAL"
