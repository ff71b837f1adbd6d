"""What a child process gets of our environment: never all of it by accident, for keys lie in it."""

import os
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

_ESSENTIAL = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TEMP|TMP|TZ|TZDIR|LANG|LANGUAGE|LC_[A-Z]+|PYTHON[A-Z0-9]+|VIRTUAL_ENV"
    r"|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|SYSTEMROOT|[A-Z]+_NUM_THREADS|XDG_[A-Z_]+"
)
_KEY = re.compile(
    r"(?:^|_)(?:(?:API|ACCESS|SECRET|PRIVATE|ENCRYPTION)?KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASS|PASSPHRASE"
    r"|PWD|PAT|AUTH|CREDENTIALS?|COOKIES?|DSN|WEBHOOK)(?:_|$)",
    re.IGNORECASE,
)
_NO_KEYS = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK"})


def essentials(also: Sequence[str] = ()) -> dict[str, str]:
    """What any program needs: where programs are, the language, the interpreter's settings. No keys.

    `also`: patterns (`CUDA_*`) of what this one needs besides; those that are named like keys stay here all the same.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if _ESSENTIAL.fullmatch(name) or (any(fnmatchcase(name, one) for one in also) and not _KEY.search(name))
    }


def of_our_interpreter() -> dict[str, str]:
    """By which a Python that we start finds the modules that we find, and leaves none behind."""
    return {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def without_keys(keep: Sequence[str] = ()) -> dict[str, str]:
    """All that is not named like a key. `keep`: patterns (`AWS_*`) of those that are wanted although they are."""
    return {name: value for name, value in os.environ.items() if _stays(name, keep)}


def _stays(name: str, keep: Sequence[str]) -> bool:
    return name in _NO_KEYS or not _KEY.search(name) or any(fnmatchcase(name, pattern) for pattern in keep)


def everything(but: Sequence[str] = ()) -> dict[str, str]:
    """For those to whom the keys belong: all except the named ones."""
    return {name: value for name, value in os.environ.items() if name not in but}
