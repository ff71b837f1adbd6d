"""Which lines of the platform's logs belong to one command."""

from pathlib import Path


class LogMark:
    """Where the platform's logs ended when it was made, so that what follows can be told from what was there."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._ends = {path: path.stat().st_size for path in logs.glob("*.log")}

    def copy(self, run_id: str, folder: Path) -> None:
        """Adds the lines about a run to `{folder}/logs/`, by service."""
        wanted = run_id.encode()
        for path in sorted(self._logs.glob("*.log")):
            with path.open("rb") as source:
                source.seek(self._ends.get(path, 0))
                lines = [line for line in source if wanted in line]
            if lines:
                target = folder / "logs" / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("ab") as sink:
                    sink.writelines(lines)
