"""Beginning and ending to send telemetry, if anybody asked for it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from evalmesh.runtime.telemetry.settings import Export, export_wanted

_LOG = logging.getLogger(__name__)
_sending = False


def _log(sentence: str) -> None:
    _LOG.warning("%s", sentence)


@contextmanager
def telemetry_sent(*, alone: bool, say: Callable[[str], None] = _log) -> Iterator[None]:
    """Sends what the OTEL_* variables ask for while the block lasts.

    What hinders that is told once, and stops nothing.

    Args:
        alone: Whether this process is one room's.
        say: Told what hinders it, perhaps from another thread.
    """
    global _sending  # noqa: PLW0603  (a process sends once, whoever begins with it)
    export = Export({}) if _sending else export_wanted()
    for one in export.complaints:
        say(f"telemetry: {one}.")
    with ExitStack() as stack:
        if export.protocols:
            _sending = True
            try:
                from evalmesh.runtime.telemetry.otlp import sending  # noqa: PLC0415  (brings the SDK)

                stack.enter_context(sending(export, alone=alone, say=lambda why: say(_hindered(export.where, why))))
            except ImportError as error:
                say(
                    f"telemetry: nothing is sent, since the package {error.name} is missing; "
                    "pip install 'evalmesh[otlp]' brings it."
                )
        try:
            yield
        finally:
            if export.protocols:
                _sending = False


def _hindered(where: str, why: str) -> str:
    return f"telemetry: not all arrives at {where}; the work goes on, and more of this is not said. ({why})"
