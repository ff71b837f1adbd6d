"""Settings of the load generator."""

from typing import ClassVar

from pydantic import Field

from evalmesh.runtime.settings import RoomSettings


class LoadGeneratorSettings(RoomSettings):
    """Environment prefix `EVALMESH_LOAD_GENERATOR_`."""

    room: ClassVar[str] = "load_generator"

    seats: int = Field(default=1, ge=0, le=256)
    """Seats this process takes at once: each is a feeder and an engine process. One per core that may be spent."""
    warm_pairs: int = Field(default=1, ge=0)
    """Processes of so many seats are started at once, so that a load test need not wait for them."""
    conductors: int = Field(default=4, ge=0)
    """Load tests this process conducts at once; conducting costs next to nothing. 0: it holds seats only."""
    join_timeout_s: float = Field(default=60.0, gt=0)
    """How long a load test waits for its seats to be taken: for as long as the cluster needs to start generators."""
    lost_after_s: float = Field(default=6.0, gt=0)
    """A generator that is not heard for this long is lost."""
    roots: str = ""
    """Comma-separated folders that `target.ca_file` may lead into."""
    host: str = ""
    """Of several platforms on one folder, the one whose load tests are performed; empty: those bound to none."""
    hosts_dir: str = ""
    """Where such platforms say that they live; empty: there are no others."""
    scratch_dir: str = ""
    """Where each process makes a folder of its own for records and downloaded files while they are needed; empty: the
    system's folder for temporary files."""
