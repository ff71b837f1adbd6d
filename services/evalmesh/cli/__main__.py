"""The command `evalmesh`. Each command lives in a module of its own, loaded when it is asked for."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from traceback import print_exc

from evalmesh.cli import exits
from evalmesh.cli.flags import parse
from evalmesh.cli.folders import check_work_dir
from evalmesh.cli.printable import guarded
from evalmesh.domain.errors import EvalmeshError
from evalmesh.runtime.garbage import collect_rarely

_UNAVAILABLE = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED"})
_OF_PLACES = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""What is wrong with a file or folder that was named, and not with the machine."""
_FAILED = frozenset({"INTERNAL", "RESOURCE_EXHAUSTED", "CONFLICT"})


def exit_code(reason: str) -> int:
    """The exit code for a reason of `domain.errors`."""
    if reason in _UNAVAILABLE:
        return exits.UNAVAILABLE
    return exits.FAILED if reason in _FAILED else exits.BAD_INPUT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; nothing but the exit code escapes."""
    collect_rarely()
    with guarded():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    # Before gRPC is loaded, which otherwise puts lines of its own on standard error: for every process the scorer
    # starts, which is no fork, and for what is an error of ours a moment later.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        args = parse(argv)
    except (EvalmeshError, OSError) as error:
        return _tell(error, debug=False)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exits.BAD_INPUT
    try:
        check_work_dir(args)
        return int(import_module(f"evalmesh.cli.{args.module}").run(args))
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except Exception as error:  # noqa: BLE001  # the last place that can turn it into a sentence
        return _tell(error, debug=bool(getattr(args, "debug", False)))


def _tell(error: Exception, *, debug: bool) -> int:
    if debug:
        print_exc()
    reason = getattr(error, "reason", None)
    if isinstance(reason, str) and hasattr(error, "message"):
        print(f"evalmesh: {error.message}", file=sys.stderr)
        return exit_code(reason)
    if isinstance(error, OSError) and error.strerror:
        if error.errno in _OF_PLACES and error.filename:
            print(f"evalmesh: {str(error.filename)!r} cannot be used: {error.strerror.lower()}.", file=sys.stderr)
            return exits.BAD_INPUT
        where = f" ({error.filename})" if error.filename else ""
        print(f"evalmesh: {error.strerror}{where}.", file=sys.stderr)
        return exits.FAILED
    hint = "" if debug else " Run the command again with --debug to see where."
    print(f"evalmesh: a defect: {type(error).__name__}: {error}.{hint}", file=sys.stderr)
    return exits.FAILED


if __name__ == "__main__":
    sys.exit(main())
