"""How the platform runs on one machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalmesh.domain.connection import Connection

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
    metrics_address: str = ""
    """Where `/metrics` is shown, for whoever has the token; empty: nowhere. With `processes` the gateway shows its own
    there and the others on the ports that follow."""
    ack_wait_s: float = 10.0
    drain_s: float = 5.0
    host: str = ""
    """Name of this platform among those on the folder: it works on its own runs alone. Empty: on all that are no other
    platform's; there is one such at most."""
    objects_url: str = ""
    """The object store; empty: a folder beside the rest. An `s3://` one is reached as EVALMESH_S3_* say."""
    hosted: frozenset[str] | None = None
    """Services that are there; `None`: all. A command that needs few starts sooner with few."""
    at_work: frozenset[str] | None = None
    """Services that take work; `None`: all. To look at runs, none need to: queued work then stays where it is."""

    only_looks: bool = False
    """Nothing is changed by who uses it."""
    connections: tuple[Connection, ...] = ()
    """Model servers that are given keys; all others may be asked without."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Keys that are in no environment, by the name of the variable that references to them have."""

    @property
    def state_dir(self) -> Path:
        """Where queues, records, objects and logs are."""
        return self.work_dir.resolve() / ".evalmesh"

    @property
    def token_file(self) -> Path:
        """What callers must show; it holds another token each time the platform is started."""
        return self.hosts_dir / f"{self.host}.token" if self.host else self.state_dir / "token"

    @property
    def hosts_dir(self) -> Path:
        """Which platforms run on the folder."""
        return self.state_dir / "hosts"

    @property
    def scratch_dir(self) -> Path:
        """What this platform needs only while it runs."""
        return self.state_dir / "scratch" / (self.host or "shared")

    @property
    def store_url(self) -> str:
        """The object store in use."""
        return self.objects_url or (self.state_dir / "objects").as_uri()


def peer_address(address: str, port: int) -> str:
    """Where a server that was told to listen at `address`, and does so on `port`, is found from this machine."""
    host = address.rpartition(":")[0]
    return f"{_ANYWHERE.get(host, host)}:{port}"
