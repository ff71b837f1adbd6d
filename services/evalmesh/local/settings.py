"""How the platform runs on one machine."""

from dataclasses import dataclass
from pathlib import Path

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - read, not bound


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How the platform runs on this machine."""

    work_dir: Path
    """Everything is kept in its folder `.evalmesh`, so that a run can be resumed after a crash."""
    processes: bool = False
    """Each service in a process of its own."""
    runners: int = 1
    """Model runner processes; above 1 only with `processes`."""
    generators: int = 0
    """Seats for load tests; 0: none, and no load test is worked on."""
    address: str = "127.0.0.1:0"
    log_level: str = "INFO"
    ack_wait_s: float = 10.0
    drain_s: float = 5.0
    objects_url: str = ""
    """The object store; empty: a folder beside the rest. An `s3://` one is reached as EVALMESH_S3_* say."""
    hosted: frozenset[str] | None = None
    """Services that are there; `None`: all. A command that needs few starts sooner with few."""
    at_work: frozenset[str] | None = None
    """Services that take work; `None`: all. To look at runs, none need to: queued work then stays where it is."""

    @property
    def state_dir(self) -> Path:
        """Where queues, records, objects and logs are."""
        return self.work_dir.resolve() / ".evalmesh"

    @property
    def store_url(self) -> str:
        """The object store in use."""
        return self.objects_url or (self.state_dir / "objects").as_uri()


def peer_address(address: str, port: int) -> str:
    """Where a server that was told to listen at `address`, and does so on `port`, is found from this machine."""
    host = address.rpartition(":")[0]
    return f"{_ANYWHERE.get(host, host)}:{port}"
