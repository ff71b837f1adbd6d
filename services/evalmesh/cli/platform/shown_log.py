"""With `--debug`: warnings of the services on standard error as they are logged."""

import logging
import sys
from pathlib import Path

from evalmesh.cli.printable import one_line


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        room = record.name.removeprefix("evalmesh.").partition(".")[0]
        try:
            # Looked up each time: while progress is drawn, standard error is what draws around the line.
            print(one_line(f"{record.levelname.lower()}: {room}: {record.getMessage()}"), file=sys.stderr)
        except Exception:  # noqa: BLE001  # as handlers do: a line that cannot be shown must end nothing
            self.handleError(record)


def show_warnings(log: Path) -> None:
    """From now on in this process; what the services do besides is in the log, which is named."""
    print(f"log      {log}", file=sys.stderr)
    logging.getLogger().addHandler(_Shown(logging.WARNING))
