"""Folders that a command is told to look into. Imports nothing heavy."""

import argparse
import os
from pathlib import Path

from evalmesh.domain.errors import InvalidInput, NotFound

_LOOKS = frozenset({"runs", "report", "samples", "compare"})
_LOOKS_OF_PERF = frozenset({"list", "watch", "cancel", "show", "compare", "export"})


def check_work_dir(args: argparse.Namespace) -> None:
    """Refuses, for commands on what is there, a work directory that is none: it would be made, to say that it is empty.

    The default need not be there yet. Raises `NotFound` and `InvalidInput`.
    """
    action = getattr(args, "action", None)
    looks = args.command in _LOOKS or (args.command == "perf" and action in _LOOKS_OF_PERF)
    if not looks or args.server:
        return
    # What outputs have left is taken up again in a work directory of its own.
    begins = action == "resume" and args.run is not None
    check_readable(args.work_dir, "work_dir", may_lack=begins or args.work_dir == args.parser.get_default("work_dir"))


def check_readable(folder: str | Path, field: str = "", *, may_lack: bool = False) -> None:
    """Raises `NotFound` where there is no such folder, `InvalidInput` where it cannot be looked into."""
    path = Path(folder).expanduser()
    named = f"{field}: {str(path)!r}" if field else repr(str(path))
    details = {"field": field} if field else {}
    try:
        with os.scandir(path) as found:
            inside = next(found, None)
        if inside is not None:
            # A folder whose names may be listed need not let anybody at what they name.
            (path / inside.name).lstat()
    except FileNotFoundError:
        if not may_lack:
            raise NotFound(f"{named} is no folder that exists.", details) from None
    except NotADirectoryError:
        raise InvalidInput(f"{named} is a file; name a folder.", details) from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InvalidInput(f"{named} cannot be read: {why}; name another folder, or change it.", details) from None
