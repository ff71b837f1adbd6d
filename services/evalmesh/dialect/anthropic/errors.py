"""Types of errors, as the statuses that stand for them: in a stream the status was sent long before."""

from collections.abc import Mapping
from typing import Any

from evalmesh.dialect.answer import Fault
from evalmesh.dialect.errors import said_of
from evalmesh.dialect.loose import mapping_of

STATUS: Mapping[str, str] = {
    "invalid_request_error": "400",
    "authentication_error": "401",
    "billing_error": "402",
    "permission_error": "403",
    "not_found_error": "404",
    "request_too_large": "413",
    "rate_limit_error": "429",
    "api_error": "500",
    "timeout_error": "504",
    "overloaded_error": "529",
}


def reported(error: object) -> Fault:
    """What the object under `error` says."""
    said = said_of(error)
    kind = mapping_of(error).get("type")
    code = STATUS.get(kind, said.code) if isinstance(kind, str) else said.code
    words = f"{kind}: {said.message}" if isinstance(kind, str) and kind else said.message
    return Fault("reported", words, code)


def error_under(value: Mapping[str, Any]) -> Fault | None:
    """The error that an object is or holds in place of an answer."""
    error = value.get("error")
    if value.get("type") == "error" or error:
        return reported(error or value)
    return None
