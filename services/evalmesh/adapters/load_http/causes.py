"""Why there is no connection, in words a person can act upon: without names of Python, OpenSSL or a client library."""

import os
import socket
import ssl

from evalmesh.adapters.guarded_sockets import FORBIDDEN, ForbiddenAddress
from evalmesh.adapters.tls import TRUST


def cause_of(error: BaseException) -> str:
    """Of an error of the operating system or of TLS, or of one of aiohttp's that wraps one."""
    # aiohttp's are told by what they hold: the fast transport does without that library.
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if isinstance(inner, BaseException) and inner is not error:
        return cause_of(inner)
    if isinstance(error, ForbiddenAddress):
        return FORBIDDEN
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    if isinstance(error, socket.gaierror):
        return f"the name of the host is not known ({error.strerror})"
    if isinstance(error, OSError) and (error.errno or error.strerror):
        return os.strerror(error.errno).lower() if error.errno else str(error.strerror)
    return str(error) or type(error).__name__


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message.rstrip('.')} ({TRUST})"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS here (an http address?)"
    return f"TLS failed: {error.reason or error}"
