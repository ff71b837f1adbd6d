"""What follows when a step on a shard is set aside: the shard's requests become errored results."""

from evalmesh.domain.work import Step, WorkItem
from evalmesh.ports.bus import Bus


class ShardSetAside:
    """Tells the report that a shard will not come."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def __call__(self, item: WorkItem, error: str) -> None:
        """Publishes the shard's report item with its error."""
        await self._bus.publish([item.then(Step.REPORT, item.trace, error)])
