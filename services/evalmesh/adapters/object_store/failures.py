"""From what obstore and the operating system report to the errors of the domain.

obstore raises `FileNotFoundError`, a few classes of its own, and `GenericError` for all the rest, so the cause must be
read from the text: `(os error 28)` for folders, `status code: 503` and `<Code>SlowDown</Code>` for S3.
"""

import errno
import re

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

from evalmesh.domain.errors import (
    AlreadyExists,
    EvalmeshError,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9_.]{1,80})\s*</Code>")
_DEBUG = "\n\nDebug source"
_METADATA_SERVICE = re.compile(r"169\.254\.169\.254|169\.254\.170\.2|fd00:ec2::254")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_BAD_KEY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ})

# MinIO says XMinio..., Ceph QuotaExceeded with 403, others 507 with a code of their own.
_FULL_CODES = re.compile(r"StorageFull|Quota|InsufficientStorage|NoSpace|EntityTooManyObjects")
_DENIED_CODES = frozenset(
    {
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)


def os_error_number(error: BaseException) -> int | None:
    """The errno behind an exception of obstore or of Python."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found.group(1)) if found else None


def folder_failure(error: BaseException, store: str, action: str) -> EvalmeshError:
    """What a failed call on a folder means; `action` reads like `put of 'a/b'`."""
    number = os_error_number(error)
    what, why = _what(action, store), _first_line(error)
    failure: EvalmeshError = Unavailable(f"{what}: {why}. Check the disk or mount, then try again.")
    if isinstance(error, AlreadyExistsError):
        failure = AlreadyExists(f"{what}: the object is already there.")
    elif isinstance(error, FileNotFoundError) or number == errno.ENOENT:
        failure = NotFound(f"{what}: there is no such object.")
    elif number in _FULL:
        failure = ResourceExhausted(f"{what}: {why}. Free space or move the work directory, then try again.")
    elif isinstance(error, PermissionDeniedError) or number in _DENIED:
        failure = PermissionDenied(f"{what}: {why}. Give this user read and write access to the folder.")
    elif number in _BAD_KEY:
        failure = InvalidInput(f"{what}: {why}. In a folder, an object cannot lie under the key of another.")
    elif isinstance(error, ValueError):
        failure = InvalidInput(f"{what}: {why}.", {"field": "key"})
    return failure


def s3_failure(error: BaseException, store: str, action: str) -> EvalmeshError:
    """What a failed call on S3 means; of the server's answer only its code is repeated, as the rest may name keys."""
    text = str(error)
    head = text.split(_DEBUG, 1)[0]
    status_match, code_match = _STATUS.search(head), _CODE.search(head)
    status = int(status_match.group(1)) if status_match else 0
    code = code_match.group(1) if code_match else ""
    what = _what(action, store)
    answer = f"the server answered {status} {code}".rstrip()
    if isinstance(error, AlreadyExistsError):
        return AlreadyExists(f"{what}: the object is already there.")
    if _METADATA_SERVICE.search(head):
        return PermissionDenied(
            f"{what}: no S3 credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or grant a role."
        )
    if status == 507 or _FULL_CODES.search(code):
        return ResourceExhausted(f"{what}: {answer}. Free space or raise the quota of the bucket.")
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if refused or status in {401, 403} or code in _DENIED_CODES:
        return PermissionDenied(f"{what}: {answer}. Check the access key, the secret key and the bucket's policy.")
    return _s3_by_status(error, what, answer, (status, code))


def _s3_by_status(error: BaseException, what: str, answer: str, reply: tuple[int, str]) -> EvalmeshError:
    status, code = reply
    failure: EvalmeshError = Unavailable(f"{what}: {answer}. Try again later.")
    if code == "NoSuchBucket":
        failure = FailedPrecondition(f"{what}: {answer}. Create the bucket with 'evalmesh store init'.")
    elif isinstance(error, FileNotFoundError) or status == 404:
        failure = NotFound(f"{what}: there is no such object.")
    elif isinstance(error, ValueError):
        failure = InvalidInput(f"{what}: {_first_line(error)}.", {"field": "key"})
    elif "redirect without LOCATION" in str(error):
        # How S3 sends a request for a bucket of another region away.
        failure = FailedPrecondition(f"{what}: the bucket lies in another region. Set the region option or AWS_REGION.")
    elif not status:
        failure = Unavailable(f"{what}: {_transport(error)}. Check that the server runs and can be reached.")
    elif status == 501 or code == "NotImplemented":
        failure = Unimplemented(f"{what}: {answer}. Use an S3 server that supports this call.")
    elif status < 500 and status not in {408, 409, 425, 429}:
        failure = FailedPrecondition(f"{what}: {answer}. Check the endpoint, the region and the bucket's settings.")
    return failure


def _what(action: str, store: str) -> str:
    return f"The {action} in the object store {store} failed"


def _transport(error: BaseException) -> str:
    """Names the failure of a connection, which obstore tells in the debug part of its text only."""
    text = str(error)
    for mark, words in (
        ("kind: Timeout", "the server did not answer in time"),
        ("dns error", "the server's name cannot be resolved"),
        ("ConnectionRefused", "the connection was refused"),
        ("kind: Connect", "no connection could be made"),
    ):
        if mark in text:
            return words
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).split(_DEBUG, 1)[0].strip().split("\n", 1)[0].rstrip(".")
