"""File descriptors: every connection takes one, and what shells allow by default is soon used up."""

import contextlib
import sys

_ENOUGH = 1 << 20


def allow_all_descriptors() -> None:
    """Raises this process's own limit to what the machine allows it; nothing happens where that is not to be had."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  (not there on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
