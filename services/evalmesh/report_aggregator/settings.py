"""Settings of the report aggregator."""

from typing import ClassVar

from pydantic import Field

from evalmesh.runtime.settings import RoomSettings


class ReportAggregatorSettings(RoomSettings):
    """Environment prefix `EVALMESH_REPORT_AGGREGATOR_`."""

    room: ClassVar[str] = "report_aggregator"

    shards_at_once: int = Field(default=32, ge=1)
    """Shards whose results may be waiting for one write of the progress record."""
