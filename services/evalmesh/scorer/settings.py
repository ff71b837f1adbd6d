"""Settings of the scorer."""

from typing import ClassVar

from evalmesh.runtime.settings import RoomSettings


class ScorerSettings(RoomSettings):
    """Environment prefix `EVALMESH_SCORER_`."""

    room: ClassVar[str] = "scorer"

    processes: int = 2
    """Killable processes for scoring that may take long."""
    sample_deadline_s: float = 10.0
    """A sample that takes longer is unscored, and its process replaced."""
    shards_at_once: int = 4
