"""Which token opens a platform: what the environment says, or what a platform of the same user left for its owner.

A platform on this machine writes where its token lies into the user's state folder, under its address. So an address
is all that has to be typed or copied, and whoever may not read this user's files does not get in. Only the place of
the token is kept there: the token itself lies in the work directory of the platform and goes when that ends.
"""

import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from evalmesh.domain.errors import InvalidInput
from evalmesh.process.files import appearing

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ANY = ("0.0.0.0", "[::]")  # noqa: S104  (what a platform may listen on, compared here)


def token_for(address: str, given: str | None = None) -> Callable[[], str]:
    """The token to show at an address, asked for before each call: a platform that was started again has another one.

    In order: `given` (empty: none), `EVALMESH_TOKEN`, the file of `EVALMESH_TOKEN_FILE`, a platform of this user.
    Raises `InvalidInput` for a file that cannot be read.
    """
    fixed = given if given is not None else os.environ.get("EVALMESH_TOKEN", "").strip()
    if given is None and not fixed and (path := os.environ.get("EVALMESH_TOKEN_FILE", "")):
        fixed = _first_line(path)
    if fixed or given is not None:
        return lambda: fixed
    return lambda: _own_token(address)


def _first_line(path: str) -> str:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"EVALMESH_TOKEN_FILE: {path!r} cannot be read: {why}.", {"field": "token"}) from None
    if not lines:
        raise InvalidInput(f"EVALMESH_TOKEN_FILE: {path!r} is empty; it must hold a token.", {"field": "token"})
    return lines[0]


def state_folder() -> Path:
    """Where platforms of this user are known: `$XDG_STATE_HOME/evalmesh`, which is `~/.local/state/evalmesh`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "evalmesh"


@contextmanager
def known(address: str, token_file: Path) -> Iterator[None]:
    """While the block lasts, this user finds the token of the platform at `address`. Raises `OSError`."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_own(folder):
        raise PermissionError(f"{folder} belongs to another user")
    folder.chmod(0o700)
    entry = folder / _name(address)
    with ExitStack() as stack:
        with appearing(entry) as file:
            file.write(os.fsencode(token_file))
            # Held exactly as long as this process lives: what is not locked is about a platform that was killed.
            held = stack.enter_context(os.fdopen(os.dup(file.fileno()), "wb"))
            fcntl.flock(held, fcntl.LOCK_EX)
        stack.callback(entry.unlink, missing_ok=True)
        yield


def _own_token(address: str) -> str:
    try:
        folder = state_folder()
        if not _is_own(folder) or folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return ""
        return next((token for name in _names(address) if (token := _read(folder / name))), "")
    except (OSError, RuntimeError):  # no home, or none that may be read
        return ""


def _read(entry: Path) -> str:
    try:
        with entry.open(encoding="utf-8") as file:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return ""  # somebody else may listen there now, and must not be shown even an old token
            return Path(file.read()).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _is_own(folder: Path) -> bool:
    return folder.stat().st_uid == os.geteuid()


def _name(address: str) -> str:
    # Home folders may be shared by machines, whose loopback addresses are not.
    return f"{socket.gethostname()}_{address}".replace("/", "_")


def _names(address: str) -> Iterator[str]:
    """Entries that may be about this address: a platform may listen on all addresses of the machine."""
    plain = address.removeprefix("ipv4:").removeprefix("dns:")
    yield _name(plain)
    host, _, port = plain.rpartition(":")
    if host in _LOOPBACK:
        yield from (_name(f"{other}:{port}") for other in (*_LOOPBACK, *_ANY) if other != host)
