"""Settings of the scorer."""

from typing import ClassVar

from pydantic import Field

from evalmesh.runtime.settings import RoomSettings


class ScorerSettings(RoomSettings):
    """Environment prefix `EVALMESH_SCORER_`."""

    room: ClassVar[str] = "scorer"

    processes: int = Field(default=2, ge=1)
    """Killable processes for scoring that may take long."""
    sample_deadline_s: float = Field(default=10.0, gt=0)
    """A sample that takes longer is unscored, and its process replaced."""
    memory_mib: int = Field(default=2048, ge=0)
    """What a sample may use beyond what its process has loaded; 0: no limit. One that wants more is unscored."""
    shards_at_once: int = Field(default=4, ge=1)
